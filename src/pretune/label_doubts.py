"""Labels that held-out predictions contradict: of classes, words and values (cleanlab) and of boxes."""

from __future__ import annotations

__all__ = ["Doubt", "box_doubts", "class_doubts", "doubtful", "value_doubts", "word_doubts"]

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.boxes import FITS, overlap

_BY_CLASS = {"adjust_pred_probs": True}
"""Of entities a model is less sure than of what is none: probabilities are ranked less their mean over the class."""

_FAR = 3.5
"""Deviations, of the median absolute one, from which on a value is an outlier (Iglewicz & Hoaglin 1993)."""


@dataclass(frozen=True)
class Doubt:
    """A label that is probably wrong, or the part of it that is.

    Attributes:
        record: Its position.
        given: What the label says.
        suggested: What models that had not seen it say.
        confidence: Their probability of that.
        given_probability: How probable the label is to them.
    """

    record: int
    given: str
    suggested: str
    confidence: float
    given_probability: float


def class_doubts(
    found: Sequence[Mapping[str, Any]], labels: Sequence[Any], names: Sequence[str], *, separator: str | None = None
) -> list[Doubt]:
    """Labels that confident learning prunes (Northcutt, Jiang & Chuang 2021), the least probable first.

    Args:
        found: With ``probabilities`` by name.
        labels: One name a record, or a list of them.
        names: Of the classes.
        separator: Joins the labels of a record where each has a list of them.
    """
    # a class of few records may be absent from a fold's training data: then it has no probability
    p = np.array([[f["probabilities"].get(n, 0.0) for n in names] for f in found], np.float64)
    doubted = doubtful(labels, names, p, several=separator is not None)
    if separator is None:
        return [_class(i, labels[i], p[i], names) for i in doubted]
    return [_classes(i, labels[i], p[i], names, separator) for i in doubted]


def doubtful(
    labels: Sequence[Any], names: Sequence[str], probabilities: NDArray[np.float64], *, several: bool = False
) -> list[int]:
    """Positions of labels that confident learning prunes, the least probable label first.

    Args:
        labels: One name a record, or a list of them.
        names: Of the columns of `probabilities`.
        probabilities: Out-of-sample, shape (records, classes).
        several: Whether a record has a list of labels.
    """
    place = {name: i for i, name in enumerate(names)}
    if several:
        from cleanlab.multilabel_classification.filter import find_label_issues as find_several

        times = Counter(n for label in labels for n in label)
        kept = [n for n in names if 0 < times[n] < len(labels)]  # what all or none have cannot be judged
        numbers: Any = [[kept.index(n) for n in label if n in kept] for label in labels]
        judged = probabilities[:, [place[n] for n in kept]]
        ranked = {"return_indices_ranked_by": "self_confidence", "n_jobs": 1}
        found = find_several(numbers, judged, **ranked) if kept else []
    else:
        from cleanlab.filter import find_label_issues

        numbers = np.array([place[label] for label in labels])
        with _rare_classes():
            found = find_label_issues(numbers, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return [int(i) for i in found]


def _class(record: int, label: str, p: NDArray[np.float64], names: Sequence[str]) -> Doubt:
    best = _best_but(p, given := names.index(label))
    return Doubt(record, label, names[best], float(p[best]), float(p[given]))


def _classes(record: int, label: Sequence[str], p: NDArray[np.float64], names: Sequence[str], separator: str) -> Doubt:
    wrong = np.abs(np.isin(names, label) - p)
    suggested = separator.join(n for n, v in zip(names, p, strict=True) if v >= 0.5)
    return Doubt(record, separator.join(label), suggested, float(wrong.max()), float(1 - wrong.max()))


def _best_but(odds: NDArray[np.float64], given: int) -> int:
    """The likeliest class beside the given one."""
    return int(np.where(np.arange(len(odds)) == given, -1.0, odds).argmax())


def word_doubts(found: Sequence[Mapping[str, Any]], tags: Sequence[Sequence[str]], names: Sequence[str]) -> list[Doubt]:
    """Words whose tags confident learning prunes (Wang & Mueller 2022), the least probable of each record.

    Args:
        found: With ``words`` and ``each``, probabilities (words, names).
        tags: Given ones, as many as words.
        names: Of the tags.
    """
    from cleanlab.token_classification.filter import find_label_issues

    place = {name: i for i, name in enumerate(names)}
    numbers = [[place[tag] for tag in row] for row in tags]
    odds = [p["each"] for p in found]
    with _rare_classes():
        issues = find_label_issues(
            numbers, odds, return_indices_ranked_by="self_confidence", rank_by_kwargs=_BY_CLASS, n_jobs=1
        )
    words: dict[int, list[int]] = {}
    for record, word in issues:
        words.setdefault(int(record), []).append(int(word))
    doubted = ((i, w[0], len(w) - 1) for i, w in words.items())
    return [_word(i, w, more, odds[i][w], numbers[i][w], found[i]["words"][w], names) for i, w, more in doubted]


@contextlib.contextmanager
def _rare_classes() -> Iterator[None]:
    """Inside, cleanlab does not warn that a class with one record or none cannot be judged."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues", UserWarning)
        yield


def _word(
    record: int, at: int, more: int, odds: NDArray[np.float64], given: int, word: str, names: Sequence[str]
) -> Doubt:
    best = _best_but(odds, given)
    others = f", and {more} more" if more else ""
    said = f"{word} (word {at + 1}): {names[given]}{others}"
    return Doubt(record, said, names[best], float(odds[best]), float(odds[given]))


def value_doubts(found: NDArray[np.float64], given: NDArray[np.float64]) -> list[Doubt]:
    """Values that are outliers among the residuals, ranked by OUTRE (Zhou et al. 2023).

    Args:
        found: Held-out predictions, shape (records,).
        given: Labels, same shape.
    """
    from cleanlab.regression.rank import get_label_quality_scores

    quality = get_label_quality_scores(given, found)
    apart = given - found - np.median(given - found)
    deviation = 1.4826 * np.median(np.abs(apart))
    far = np.flatnonzero(np.abs(apart) > _FAR * deviation)
    order = far[np.argsort(quality[far], kind="stable")].tolist()
    return [Doubt(i, f"{given[i]:.4g}", f"{found[i]:.4g}", 1 - float(quality[i]), float(quality[i])) for i in order]


def box_doubts(
    found: Sequence[Sequence[Mapping[str, Any]]], given: Sequence[Sequence[Mapping[str, Any]]]
) -> list[Doubt]:
    """Images with a surely found box that is not labelled, or as another class; the surest of each.

    After confident learning: sure is what has at least the mean score of the boxes that match a label of their class.
    Labels where nothing is found are not doubted.

    Args:
        found: Held-out boxes of each image: ``label``, ``box`` [left, top, width, height], ``score``.
        given: The same without ``score``.
    """
    matched: dict[str, list[float]] = {}
    strangers: list[tuple[int, Mapping[str, Any]]] = []
    for record, (boxes, labels) in enumerate(zip(found, given, strict=True)):
        for box in boxes:
            if overlap(box, [b for b in labels if b["label"] == box["label"]]) >= FITS:
                matched.setdefault(box["label"], []).append(box["score"])
            else:
                strangers.append((record, box))
    sure = {label: float(np.mean(scores)) for label, scores in matched.items()}
    doubted: dict[int, Doubt] = {}
    for record, box in sorted(strangers, key=lambda s: -s[1]["score"]):
        if box["score"] >= sure.get(box["label"], 1.0) and record not in doubted:
            doubted[record] = _box(record, box, given[record])
    return list(doubted.values())


def _box(record: int, box: Mapping[str, Any], labels: Sequence[Mapping[str, Any]]) -> Doubt:
    there = [b["label"] for b in labels if overlap(box, [b]) >= FITS]
    place = ", ".join(f"{v:.0f}" for v in box["box"])
    said = there[0] if there else "nothing there"
    return Doubt(record, said, f"{box['label']} at {place}", float(box["score"]), 1 - float(box["score"]))
