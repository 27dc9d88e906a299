"""Answers that do not look at the input, and which mistake of a prediction is the one to explain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pretune.tasks.base import Task
from pretune.tasks.classification import Classification
from pretune.tasks.contacts import Contacts
from pretune.tasks.ctc import Ctc
from pretune.tasks.detection import Detection
from pretune.tasks.regression import Regression
from pretune.tasks.segmentation import Segmentation, _encoded
from pretune.tasks.structure import Structure
from pretune.tasks.tagging import Tagging


def of(task: Task, labels: list[str]) -> Any:
    """A task that knows its labels."""
    task.labels = labels  # type: ignore[attr-defined]
    return task


def segmentation() -> Any:
    task = of(Segmentation(), ["sky", "road"])
    task.numbers = [0, 3]
    return task


HELIX = [[2.3 * np.cos(a), 2.3 * np.sin(a), 1.5 * k] for k, a in enumerate(np.radians(100) * np.arange(40))]
MASK = np.array([[0, 3, 3], [255, 3, 3]], np.uint8)


@pytest.mark.parametrize(
    ("task", "labels", "words", "scores"),
    [
        (of(Classification(), ["a", "b"]), ["a", "b", "b", "b"], "always answering b", {"accuracy": 0.75}),
        (
            of(Classification(multi_label=True), ["a", "b"]),
            [["a"], ["a"], []],
            "always answering a",
            {"accuracy": 2 / 3},
        ),
        (Regression(), [1.0, 3.0], "always the mean", {"pearson": 0.0, "mae": 1.0}),
        (of(Tagging(), ["H", "E"]), [["H", "H", "E"], ["H"]], "always answering H", {"accuracy": 0.75}),
        (segmentation(), [MASK], "road at every pixel", {"accuracy": 0.8, "miou": 0.4}),
        (Ctc(), ["one two", "one two", "six"], "'one two'", {"exact": 2 / 3}),
        (Contacts(cutoff=9.0), [np.array(HELIX, np.float32)], "nearest in the sequence", {"long_p_l5": 0.0}),
        (Structure(), [np.array(HELIX, np.float32)], "one long helix", {"lddt": 1.0}),
    ],
)
def test_what_answers_blindly_is_scored_as_a_model_is(
    task: Task, labels: list[Any], words: str, scores: dict[str, float]
) -> None:
    blind = task.blind(labels)
    assert blind is not None
    assert words in blind[0]
    found = task.metrics(blind[1], labels)
    assert {name: found[name] for name in scores} == pytest.approx(scores)


def test_nothing_finds_entities_or_boxes_blindly() -> None:
    assert of(Tagging(), ["O", "B-PER", "I-PER"]).blind([["B-PER"]]) is None
    assert Detection().blind([[{"label": "cell", "box": [0, 0, 4, 4]}]]) is None


def spans(*found: tuple[str, int, int]) -> dict[str, Any]:
    return {"spans": [{"label": t, "start": a, "end": b, "text": f"w{a}"} for t, a, b in found]}


def test_a_wrong_entity_comes_before_a_missed_one() -> None:
    task = of(Tagging(), ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"])
    label = ["B-PER", "I-PER", "O", "B-LOC"]
    assert task.mistake(spans(("PER", 0, 2), ("LOC", 3, 4)), label) is None
    said, where = task.mistake(spans(("PER", 0, 1), ("LOC", 3, 4)), label)
    assert (said, where) == ('It takes "w0" for PER; by the label it is part of a PER of 2 words.', ("PER", 0, 1))
    assert "no entity" in task.mistake(spans(("LOC", 2, 3)), label)[0]
    assert task.mistake(spans(("PER", 0, 2)), label) == ("It misses a LOC of one word, at word 4.", ("LOC", 3, 4))
    assert task.targets({**spans(), "tags": label}, where)[0].span == (0, 1)


def test_the_label_that_is_most_surely_wrong_is_named() -> None:
    task = of(Classification(multi_label=True), ["a", "b", "c"])
    prediction = {"labels": ["a", "b"], "probabilities": {"a": 0.9, "b": 0.6, "c": 0.1}}
    assert task.mistake(prediction, ["a", "b"]) is None
    assert task.mistake(prediction, ["a", "c"]) == ("It misses c.", "c")
    assert task.mistake(prediction, "a") == ("It finds b, which the record does not have.", "b")
    assert of(Classification(), ["a", "b"]).mistake({"label": "a", "probabilities": {"a": 1.0}}, "b") is None


def test_a_word_that_was_not_said_is_named() -> None:
    assert Ctc().mistake({"text": "one two"}, "One two!") is None
    assert Ctc().mistake({"text": "one"}, "one two") is None  # nothing was heard that could be explained
    assert Ctc().mistake({"text": "one six"}, "one two") == ('It hears "six" where "two" was said.', 1)
    assert Ctc().mistake({"text": "one six two"}, "one two") == ('It hears "six" where no word was said.', 1)


def test_a_box_that_covers_no_object_is_named() -> None:
    task = of(Detection(), ["cell", "dot"])
    boxes = [
        {"label": "cell", "score": 0.9, "box": [0, 0, 10, 10]},
        {"label": "dot", "score": 0.8, "box": [0, 0, 10, 10]},
        {"label": "dot", "score": 0.1, "box": [50, 50, 9, 9]},
    ]
    truth = [{"label": "cell", "box": [1, 1, 10, 10]}]
    assert task.mistake({"boxes": boxes}, truth) == ("It sees dot where no box of that class is labelled.", boxes[1])
    assert task.mistake({"boxes": [boxes[0], boxes[2]]}, truth) is None
    assert task.mistake({"boxes": boxes[:1]}, []) is not None


def test_the_class_that_is_seen_at_most_wrong_pixels_is_named() -> None:
    task, found = segmentation(), np.array([[3, 3, 3], [3, 3, 3]], np.uint8)
    said, name = task.mistake({"mask": _encoded(found)}, MASK)
    assert (said, name) == ("It sees road at 20% of the pixels where there is something else.", "road")
    assert task.mistake({"mask": _encoded(np.where(MASK == 255, 0, MASK).astype(np.uint8))}, MASK) is None


def test_the_likeliest_pair_that_does_not_touch_is_named() -> None:
    task, label = Contacts(cutoff=10.0), np.array(HELIX, np.float32)
    prediction = {"contacts": [[1, 7, 0.9], [1, 30, 0.8]]}  # 6 residues of a helix are 9.8 Angstrom apart
    assert task.mistake(prediction, label) == ("It holds 1 and 30 for a contact, which they are not.", (1, 30))
    assert task.mistake({"contacts": [[1, 7, 0.9]]}, label) is None


def test_probabilities_are_judged_by_what_they_belong_to() -> None:
    several = of(Classification(multi_label=True), ["a", "b"])
    assert rows(several, [{"probabilities": {"a": 0.9, "b": 0.2}}], [["b"]]) == [(0.9, 0), (0.2, 1)]
    entities = of(Tagging(), ["O", "B-PER", "I-PER"])
    found = spans(("PER", 0, 2), ("PER", 3, 4))
    for span, score in zip(found["spans"], (0.8, 0.7), strict=True):
        span["score"] = score
    assert rows(entities, [found], [["B-PER", "I-PER", "O", "O"]]) == [(0.8, 1), (0.7, 0)]
    letters = of(Tagging(), ["E", "H"])
    assert rows(letters, [{"tags": "HE", "scores": [0.6, 0.9]}], [["H", "H"]]) == [(0.6, 1), (0.9, 0)]
    assert of(Tagging(), ["NN", "VB"]).reliability([{"tags": ["NN"], "spans": []}], [["NN"]]) is None
    heard = [{"word": w, "confidence": c} for w, c in (("one", 0.9), ("six", 0.5), ("two", 0.4))]
    assert rows(Ctc(), [{"text": "one six two", "words": heard}], ["one two"]) == [(0.9, 1), (0.5, 0), (0.4, 1)]
    cell = {"label": "cell", "box": [0, 0, 10, 10]}
    boxes = [cell | {"score": 0.9}, cell | {"score": 0.6}, cell | {"score": 0.3, "box": [40, 0, 9, 9]}]
    assert rows(of(Detection(), ["cell"]), [{"boxes": boxes}], [[cell]]) == [(0.9, 1), (0.6, 0), (0.3, 0)]
    named = {"contacts": [[1, 7, 0.9], [1, 30, 0.2]]}
    assert rows(Contacts(cutoff=10.0), [named], [np.array(HELIX, np.float32)]) == [(0.9, 1), (0.2, 0)]


def rows(task: Task, predictions: list[dict[str, Any]], labels: list[Any]) -> list[tuple[float, float]]:
    found = task.reliability(predictions, labels)
    assert found is not None
    return list(zip(map(float, found[1]), map(float, found[2]), strict=True))
