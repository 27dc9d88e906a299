"""CTC decoding against the enumeration of all paths, and word times against worked examples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pretune import ctc_decoding
from pretune.ctc_decoding import align, beam, greedy
from pretune.errors import ConfigError
from pretune.ngram import BEGIN, END, NGram

LETTERS = ["-", "a", "b", "|"]


def random_logs(frames: int, symbols: int, seed: int, scale: float = 2.0) -> NDArray[np.float32]:
    logits = np.random.default_rng(seed).normal(size=(frames, symbols)) * scale
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def path_logs(text: str, alphabet: list[str], sure: float = 0.9) -> NDArray[np.float32]:
    """One character of `text` a frame, the rest of the mass spread evenly."""
    probs = np.full((len(text), len(alphabet)), (1 - sure) / (len(alphabet) - 1))
    probs[np.arange(len(text)), [alphabet.index(c) for c in text]] = sure
    return np.log(probs).astype(np.float32)


def collapse(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


def all_labellings(logs: NDArray[np.float32], blank: int) -> dict[tuple[int, ...], float]:
    """Probability of every labelling, summed over all paths."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(logs.shape[1]), repeat=len(logs)):
        prob = math.exp(sum(float(logs[t, s]) for t, s in enumerate(path)))
        key = collapse(path, blank)
        found[key] = found.get(key, 0.0) + prob
    return found


def text_of(labelling: tuple[int, ...], alphabet: list[str]) -> str:
    return " ".join("".join(alphabet[i] for i in labelling).replace("|", " ").split())


def lm_share(text: str, lm: NGram, weight: float, bonus: float) -> float:
    padded = (BEGIN, *text.split(), END)
    return weight * sum(lm.log_prob(padded[:i], padded[i]) for i in range(1, len(padded))) + bonus * (len(padded) - 2)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("seed", range(25))
def test_an_unlimited_beam_finds_the_most_probable_labelling(seed: int, blank: int) -> None:
    alphabet = LETTERS if blank == 0 else ["a", "|", "-", "b"]
    logs = random_logs(6, 4, seed, scale=(0.3, 1.0, 3.0)[seed % 3])
    every = all_labellings(logs, blank)
    best = max(every, key=lambda k: every[k])
    found = beam(logs, alphabet, blank, width=10**6, prune=-math.inf)
    assert found.text == text_of(best, alphabet)
    assert found.score == pytest.approx(math.log(every[best]), abs=1e-5)
    narrow = beam(logs, alphabet, blank, width=3)
    assert narrow.score <= found.score + 1e-6


@pytest.mark.parametrize("seed", range(15))
def test_an_unlimited_beam_with_a_language_model_finds_the_best_sum(seed: int) -> None:
    lm = NGram.from_sentences(["a b", "ab a", "ba", "b b a ab", "aba a"], 1 + seed % 3)
    logs = random_logs(6, 4, seed + 100, scale=(0.3, 1.0)[seed % 2])
    every = all_labellings(logs, 0)

    def ranked(key: tuple[int, ...]) -> float:
        return math.log(every[key]) + lm_share(text_of(key, LETTERS), lm, 0.8, 1.5)

    best = max(every, key=ranked)
    found = beam(logs, LETTERS, 0, width=10**6, prune=-math.inf, lm=lm, lm_weight=0.8, word_bonus=1.5)
    assert found.text == text_of(best, LETTERS)
    assert found.score == pytest.approx(math.log(every[best]), abs=1e-5)


def test_the_beam_sums_paths_where_the_best_path_misleads() -> None:
    logs = np.log(np.array([[0.6, 0.4], [0.6, 0.4]], dtype=np.float32))  # no letter 0.36, "a" 0.64 over three paths
    assert greedy(logs, ["-", "a"], 0).text == ""
    found = beam(logs, ["-", "a"], 0)
    assert found.text == "a"
    assert found.score == pytest.approx(math.log(0.64), abs=1e-6)


@pytest.mark.parametrize("width", [1, 5, 50])
def test_the_score_is_the_ctc_loss_of_the_text_whatever_the_width(width: int) -> None:
    alphabet = ["-", *"abcdef"]
    for seed in range(4):
        logs = random_logs(60, 7, seed, 2.0)
        found = beam(logs, alphabet, 0, width=width)
        tokens = torch.tensor([[alphabet.index(c) for c in found.text]])
        lengths = torch.tensor([60]), torch.tensor([tokens.shape[1]])
        loss = functional.ctc_loss(torch.from_numpy(logs)[:, None], tokens, *lengths, reduction="sum")
        assert found.score == pytest.approx(-loss.item(), abs=1e-3)


def test_a_wider_beam_finds_more_probable_text() -> None:
    scores = [[beam(random_logs(60, 4, s, 1.0), LETTERS, 0, width=w).score for w in (1, 8, 200)] for s in range(8)]
    means = np.mean(scores, axis=0)
    assert means[0] < means[1] < means[2]


def test_a_prefix_that_left_the_beam_and_came_back_is_the_same_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    advanced = ctc_decoding._advanced
    spelled: list[list[list[int]]] = []

    def watched(*args: object) -> object:
        kept = advanced(*args)  # type: ignore[arg-type]
        spelled.append([args[4].tokens(n) for n in kept.nodes])  # type: ignore[attr-defined]
        return kept

    monkeypatch.setattr(ctc_decoding, "_advanced", watched)
    for seed in range(10):
        beam(random_logs(60, 3, seed, 1.0), LETTERS[:3], 0, width=20)
    assert len(spelled) == 600
    assert all(len(rows) <= 20 and len({tuple(r) for r in rows}) == len(rows) for rows in spelled)


def test_paths_are_merged_then_blanks_go() -> None:
    alphabet = ["-", *"helo", "|"]
    for path, text in {
        "hheelllo": "helo",
        "hel-lo": "hello",
        "--h-e-l-l-o--": "hello",
        "|h|e||l|": "h e l",
        "h-|-|-e": "h e",
        "----": "",
        "|": "",
    }.items():
        logs = path_logs(path, alphabet)
        assert greedy(logs, alphabet, 0).text == text
        assert beam(logs, alphabet, 0).text == text
        assert greedy(logs, alphabet, 0).score == pytest.approx(len(path) * math.log(0.9), rel=1e-5)


@pytest.mark.parametrize("decode", [greedy, beam])
def test_words_have_their_frames_and_mean_probability(decode: object) -> None:
    alphabet = ["-", *"helo", "|"]
    logs = path_logs("-hh-e|||--lol-l-", alphabet)
    logs[4] = path_logs("e", alphabet, 0.5)[0]
    found = decode(logs, alphabet, 0)  # type: ignore[operator]
    assert found.text == "he loll"
    assert [(w.text, w.start, w.end) for w in found.words] == [("he", 1, 5), ("loll", 10, 15)]
    assert [w.score for w in found.words] == pytest.approx([(0.9 + 0.9 + 0.5) / 3, 0.9], rel=1e-5)


@pytest.mark.parametrize("seed", range(30))
def test_alignment_is_the_best_of_all_paths_of_the_labelling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames, tokens = int(rng.integers(3, 8)), rng.integers(1, 4, int(rng.integers(1, 4))).tolist()
    logs = random_logs(frames, 4, seed, 1.0)
    paths = [p for p in itertools.product(range(4), repeat=frames) if collapse(p, 0) == tuple(tokens)]
    if not paths:
        with pytest.raises(ValueError, match="frames"):
            align(logs, tokens, 0)
        return
    best = max(paths, key=lambda p: sum(float(logs[t, s]) for t, s in enumerate(p)))
    runs = [(k, len(list(g))) for k, g in itertools.groupby(best)]
    ends = list(itertools.accumulate(n for _, n in runs))
    expected = [(end - n, end) for (k, n), end in zip(runs, ends, strict=True) if k != 0]
    assert align(logs, tokens, 0) == expected


def test_alignment_needs_frames_for_tokens_and_the_blanks_between_equal_ones() -> None:
    assert align(random_logs(3, 4, 0), [1, 1], 0) == [(0, 1), (2, 3)]
    assert align(random_logs(3, 4, 0), [1, 2, 1], 0) == [(0, 1), (1, 2), (2, 3)]
    assert align(random_logs(3, 4, 0), [], 0) == []
    assert align(random_logs(0, 4, 0), [], 0) == []
    with pytest.raises(ValueError, match="2 tokens need at least 3 frames, found 2"):
        align(random_logs(2, 4, 0), [1, 1], 0)
    with pytest.raises(ValueError, match="blank"):
        align(random_logs(5, 4, 0), [1, 0], 0)
    impossible = np.full((4, 3), -np.inf, dtype=np.float32)
    assert len(align(impossible, [1, 2], 0)) == 2


def test_a_language_model_flips_an_ambiguous_word() -> None:
    alphabet = ["_", *"abcdefghijklmnopqrstuvwxyz", "|"]
    logs = path_logs("i|saw|a|bad", alphabet)
    logs[-1, [alphabet.index("d"), alphabet.index("t")]] = np.log([0.5, 0.45])
    lm = NGram.from_sentences(["i saw a bat", "a bat flew", "you saw a cat", "that is bad"])
    plain, helped = beam(logs, alphabet, 0), beam(logs, alphabet, 0, lm=lm)
    assert plain.text == "i saw a bad"
    assert helped.text == "i saw a bat"
    assert plain.words[:3] == helped.words[:3]
    assert (helped.words[3].start, helped.words[3].end) == (8, 11)
    assert beam(logs, alphabet, 0, lm=lm, lm_weight=0.0).text == plain.text
    assert helped.score < plain.score  # the language model's share is left out


def test_more_bonus_gives_no_fewer_words() -> None:
    lm = NGram.from_sentences(["a b", "ab", "b a"])
    logs = random_logs(40, 4, 3, 1.0)
    numbers = [len(beam(logs, LETTERS, 0, lm=lm, word_bonus=b).words) for b in (-4.0, 0.0, 4.0)]
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[-1]


def test_skipped_symbols_are_never_chosen_even_where_they_have_all_the_mass() -> None:
    alphabet = ["<pad>", "<unk>", "ch", "a", "|"]  # a blank among the skipped ones, a symbol of two characters
    probs = np.full((5, 5), 0.01)
    probs[[0, 1, 2, 3, 4], [1, 2, 1, 3, 0]] = 0.96
    logs = np.log(probs).astype(np.float32)
    logs[0] = [-np.inf, 0.0, -np.inf, -np.inf, -np.inf]
    for decode in (greedy, beam):
        found = decode(logs, alphabet, 0)  # type: ignore[operator]
        assert "<" not in found.text
        assert found.text.startswith("ch")
        assert "<unk>" in decode(logs, alphabet, 0, skip=()).text  # type: ignore[operator]


def test_an_alphabet_without_delimiter_spells_one_word_and_no_frames_none() -> None:
    assert greedy(path_logs("ab-b", ["-", "a", "b"]), ["-", "a", "b"], 0).text == "abb"
    assert beam(path_logs("a b", ["-", "a", "b", " "]), ["-", "a", "b", " "], 0, delimiter=" ").text == "a b"
    for decode in (greedy, beam):
        empty = decode(np.zeros((0, 4), np.float32), LETTERS, 0)  # type: ignore[operator]
        assert (empty.text, empty.words, empty.score) == ("", [], 0.0)


def test_pruning_and_width_change_nothing_where_the_model_is_sure() -> None:
    logs = path_logs("a|b-b|ab--a|", LETTERS, 0.97)
    full = beam(logs, LETTERS, 0, width=500, prune=-math.inf)
    assert beam(logs, LETTERS, 0, width=2, prune=-2.0).text == full.text == "a bb aba"
    assert beam(logs, LETTERS, 0, prune=0.0).text == full.text  # the most probable symbol always extends


def test_what_cannot_work_is_said() -> None:
    logs = random_logs(3, 4, 0)
    for decode in (greedy, beam):
        with pytest.raises(ValueError, match=r"shape \(frames, 3\), found \(3, 4\)"):
            decode(logs, LETTERS[:3], 0)  # type: ignore[operator]
        with pytest.raises(ConfigError, match="blank"):
            decode(logs, LETTERS, 4)  # type: ignore[operator]
        for wrong in (logs + 5, logs * np.nan):
            with pytest.raises(ValueError, match="log_softmax"):
                decode(wrong, LETTERS, 0)  # type: ignore[operator]
    with pytest.raises(ConfigError, match="width"):
        beam(logs, LETTERS, 0, width=0)
