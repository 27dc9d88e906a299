from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from pretune.sentences import Segmenter

BROWN = Path("/work/shared/data/brown/train.txt.gz")


@pytest.mark.parametrize(
    "sentences",
    [
        ["Mr. Smith went to Washington, D.C. on Jan. 5.", "He met Dr. J. R. Brown there."],
        ["It costs $3.50, i.e. 4.2% more.", "Nobody paid."],
        ['"I hate it."', '"Why?"', "Because."],
        ['"Run!" he said.', "She ran (fast!) and fell."],
        ["He paused... and went on.", "Then... nothing.", "So what?!", "Well."],
        ["the film is good .", "it is n't long .", "`` yes '' , he said ."],
        ["this was great.", "really great!", "i loved it"],
        ["He works for Apple Inc. and lives in the U.S. now.", "We met at 5 p.m. The talk was short."],
        ["See No. 5 and Fig. 3.", "He said no.", "Then he left."],
        ["Is it true ? ?", "Ivan Allen Jr. .", "He won ."],
        ["A line without a stop\n", "Another Line\n", "Third"],
        ["一つ目の文。", "二つ目の文！", "三つ目。"],
        ["", "   "],
    ],
)
def test_hard_sentences(sentences: list[str]) -> None:
    joined = "".join(sentences) if "。" in sentences[0] or "\n" in sentences[0] else " ".join(sentences)
    expected = [s.strip() for s in sentences if s.strip()]
    if "p.m. The" in joined:  # a usual sentence start after an abbreviation
        expected = [expected[0], "We met at 5 p.m.", "The talk was short."]
    assert Segmenter().split(joined) == expected


def test_list_numbers_stay_with_their_item() -> None:
    assert Segmenter().split("1. Read it. 2. Do it.") == ["1. Read it.", "2. Do it."]


def test_wrapped_lines_are_one_sentence() -> None:
    assert Segmenter().split("This sentence was\nwrapped. The next\n\nNew paragraph") == [
        "This sentence was\nwrapped.",
        "The next",
        "New paragraph",
    ]


def test_missing_space_after_stop() -> None:
    assert Segmenter().split("I saw the film.It was bad, see torch.Tensor for more.") == [
        "I saw the film.",
        "It was bad, see torch.Tensor for more.",
    ]


def test_spans_are_offsets() -> None:
    text = "  One here.   Two there!  "
    assert [text[a:b] for a, b in Segmenter().spans(text)] == ["One here.", "Two there!"]


def test_learns_abbreviations_of_the_corpus() -> None:
    text = "The pty. was sold. " + "We saw Acme pty. limited and Zeta pty. in town. The pty. is big. " * 60
    learnt = Segmenter.learn([text])
    assert "pty" in learnt.abbreviations
    assert learnt.split("He owns Delta Pty. Sydney now. It grew.") == [
        "He owns Delta Pty. Sydney now.",
        "It grew.",
    ]


@pytest.mark.skipif(not BROWN.exists(), reason="needs shared data")
@pytest.mark.parametrize(("lower", "least"), [(False, 0.99), (True, 0.98)])
def test_brown_boundaries(lower: bool, least: float) -> None:
    with gzip.open(BROWN, "rt", encoding="utf-8") as file:
        blocks = file.read(1_500_000).split("\n\n")
    documents = [[s for s in b.split("\n") if re.search(r"[.!?]( ..?)?$", s)] for b in blocks]
    if lower:
        documents = [[s.lower() for s in d] for d in documents]
    segmenter = Segmenter.learn(" ".join(d) for d in documents)
    right = found = gold = 0
    for sentences in documents:
        ends, position = set(), -1
        for sentence in sentences:
            position += len(sentence) + 1
            ends.add(position)
        predicted = {b for _, b in segmenter.spans(" ".join(sentences))}
        right, found, gold = right + len(ends & predicted), found + len(predicted), gold + len(ends)
    assert 2 * right / (found + gold) > least
