"""Classical baselines of every modality, and the majority."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretune import image_baselines, registry, text_baselines
from pretune.baselines import majority, tfidf_logistic, tfidf_ridge
from pretune.errors import DataError
from pretune.tasks.classification import Classification

DATA = Path("/work/shared/data")
GOOD = ["a fine film", "fine acting and a good story", "good fun", "a good and fine cast"]
BAD = ["a dull film", "bad acting and a dull story", "bad jokes", "a dull and bad cast"]


def test_logistic_separates_and_gives_probabilities() -> None:
    found = tfidf_logistic(GOOD + BAD, ["good"] * 4 + ["bad"] * 4, ["fine and good", "dull and bad"])
    assert [p["label"] for p in found] == ["good", "bad"]
    assert set(found[0]["probabilities"]) == {"good", "bad"}
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1)


def test_logistic_is_the_same_for_the_same_seed() -> None:
    arguments = (GOOD + BAD, ["good"] * 4 + ["bad"] * 4, ["a story of jokes"])
    assert tfidf_logistic(*arguments, seed=3) == tfidf_logistic(*arguments, seed=3)


def test_logistic_works_with_one_text_of_a_class() -> None:
    found = tfidf_logistic([*GOOD, "dull"], [1, 1, 1, 1, 0], ["dull"])
    assert found[0]["label"] == 0


def test_pairs_are_compared() -> None:
    words = [f"word{i}" for i in range(60)]
    same = [(f"{a} {b}", f"{b} {a}") for a, b in zip(words[:30], words[30:], strict=True)]
    other = [(a, b[0]) for (a, _), b in zip(same, same[1:] + same[:1], strict=True)]
    texts, labels = same[:25] + other[:25], ["same"] * 25 + ["other"] * 25
    found = tfidf_logistic(texts, labels, same[25:] + other[25:])
    right = [p["label"] == x for p, x in zip(found, ["same"] * 5 + ["other"] * 5, strict=True)]
    assert np.mean(right) == 1


def test_ridge_orders_and_stays_in_range() -> None:
    texts = [f"{'good ' * n}{'bad ' * (5 - n)}film" for n in range(6)] * 3
    found = tfidf_ridge(texts, [float(n) for n in range(6)] * 3, [texts[5], texts[0]])
    assert 5 >= found[0] > found[1] >= 0


def test_majority() -> None:
    assert majority(["b", "a", "b"], 2) == [{"label": "b", "probabilities": {"a": 1 / 3, "b": 2 / 3}}] * 2


def test_errors() -> None:
    with pytest.raises(DataError, match="two labels or more"):
        tfidf_logistic(GOOD, ["good"] * 4, BAD)
    with pytest.raises(DataError, match="4 texts and 3 labels"):
        tfidf_logistic(GOOD, ["good"] * 3, BAD)
    with pytest.raises(DataError, match="at least one"):
        majority([], 1)


@pytest.mark.skipif(not (DATA / "trec6").is_dir(), reason="real data is not here")
def test_learns_real_questions() -> None:
    def read(name: str) -> list[dict[str, str]]:
        lines = (DATA / "trec6" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    train, test = read("train")[:512], read("test")
    found = tfidf_logistic([r["text"] for r in train], [r["label"] for r in train], [r["text"] for r in test])
    assert np.mean([p["label"] == r["label"] for p, r in zip(found, test, strict=True)]) > 0.7


def test_frequent_tags_know_words_and_guess_the_rest() -> None:
    rows = [{"tokens": ["Anna", "runs"]}, {"tokens": ["Anna", "sleeps"]}, {"text": "Rome runs"}]
    tags = [["B-PER", "O"], ["B-PER", "O"], ["B-LOC", "O"]]
    found = text_baselines.frequent_tags(rows, tags, [{"tokens": ["Anna", "in", "Rome"]}])
    assert found == [{"tags": ["B-PER", "O", "B-LOC"]}]


def test_gradients_tell_bars_apart_where_their_places_do_not() -> None:
    rng = np.random.default_rng(0)

    def bars(number: int) -> list[dict[str, Any]]:
        found = []
        for k in range(number):
            picture = np.zeros((32, 32), np.uint8)
            at = rng.integers(2, 28)
            picture[(slice(None), slice(at, at + 2)) if k % 2 else (slice(at, at + 2), slice(None))] = 255
            found.append({"image": picture, "label": "upright" if k % 2 else "level"})
        return found

    train, test = bars(24), bars(40)
    classical = registry.build("modality", "image").baseline(Classification())
    found = classical.predict(train, [r["label"] for r in train], test, 0)
    assert np.mean([f["label"] == r["label"] for f, r in zip(found, test, strict=True)]) > 0.95


def test_histograms_of_gradients_are_of_unit_blocks() -> None:
    ramp = np.repeat(np.linspace(0, 1, 32)[None, :, None], 32, axis=0)
    found = image_baselines.gradient_histograms(ramp).reshape(9, 9, 4)  # blocks, directions, cells
    # a ramp to the right: one direction, everywhere the same
    np.testing.assert_allclose(found[:, 0], 0.5, atol=0.01)
    np.testing.assert_allclose(found[:, 1:], 0, atol=1e-6)


@pytest.mark.parametrize("modality", registry.names("modality"))
def test_baselines_of_a_task_are_none_or_whole(modality: str) -> None:
    for task in registry.classes("task"):
        classical = registry.build("modality", modality).baseline(task())
        assert classical is None or classical.title
    assert registry.build("modality", modality).baseline(Classification()) is not None
    assert registry.build("modality", modality).baseline(Classification(multi_label=True)) is None
