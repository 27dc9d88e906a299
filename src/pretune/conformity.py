"""How surprising a true answer is to a prediction, and the set of answers that are not: split-conformal prediction."""

from __future__ import annotations

__all__ = ["Conformity", "OfClass", "OfLabels", "OfValue", "conformal_quantile", "conformal_rank"]

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pretune.errors import DataError
from pretune.tasks.base import Prediction
from pretune.temperature import class_logits, label_logits

Floats = NDArray[np.float64]


def conformal_rank(num_records: int, level: float) -> int:
    """``ceil((n + 1) level)``: which smallest of n scores is the quantile; above n there is none."""
    return math.ceil(round((num_records + 1) * level, 9))  # rounded: 0.95 x 20 is 19, not a little more


def conformal_quantile(scores: Sequence[float], level: float) -> float:
    """The score up to which answers belong to a set that holds the true one with probability `level` or more.

    Args:
        scores: Conformity scores of n held-out records; they and a new one may be exchanged (Vovk et al. 2005).
        level: Wanted coverage, between 0 and 1.

    Returns:
        The ``ceil((n + 1) level)``-th smallest score; infinity where n < level / (1 - level), since no score is large
        enough: the set is then everything.
    """
    rank = conformal_rank(len(scores), level)
    return math.inf if rank > len(scores) else float(np.sort(np.asarray(scores, np.float64))[rank - 1])


class Conformity:
    """What one sort of prediction needs for sets of stated coverage and for calibrated probabilities."""

    name: ClassVar[str]
    """The score, as calibration.json names it."""

    has_probabilities: ClassVar[bool] = True
    """Whether a temperature means something."""

    def scores(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> Floats:
        """How surprising the true answers are, shape (records,); the larger, the more.

        Raises:
            DataError: A label that the predictions do not have.
        """
        raise NotImplementedError

    def with_set(self, prediction: Prediction, quantile: float) -> Prediction:
        """The prediction with the answers whose score is at most `quantile`; abstains where that is not one answer."""
        raise NotImplementedError

    def covers(self, prediction: Prediction, label: Any) -> bool:
        """Whether what `with_set` added holds the true answer."""
        raise NotImplementedError

    def size(self, prediction: Prediction) -> float:
        """Of the set that `with_set` added: answers, or width."""
        raise NotImplementedError

    def logits(self, predictions: Sequence[Prediction]) -> Floats:
        """Of the probabilities, up to what a link function ignores; shape (records, labels)."""
        raise NotImplementedError

    def targets(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> NDArray[np.int64]:
        """True labels as numbers, shape (records,), or 0 and 1, shape (records, labels)."""
        raise NotImplementedError

    def rescaled(self, prediction: Prediction, temperature: float) -> Prediction:
        """The prediction with the probabilities of another temperature; the label stays."""
        raise NotImplementedError

    def reliability(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> tuple[Floats, Floats]:
        """Probabilities, and 1 where they came true; for a calibration error. Both flat and equally long."""
        raise NotImplementedError

    def confidence(self, prediction: Prediction) -> float:
        """What records are ordered by, where the least certain are left to a person."""
        raise NotImplementedError

    def right(self, prediction: Prediction, label: Any) -> bool:
        """Whether the whole answer is right."""
        raise NotImplementedError


class OfClass(Conformity):
    """One label a record: least-ambiguous sets (Sadinle, Lei & Wasserman 2019), score 1 - probability of the label.

    Of all sets with this coverage they are the smallest on average, so that most are one label; adaptive ones (APS,
    RAPS) spread errors more evenly over records at the cost of larger sets, where here more would abstain.
    """

    name = "1 - probability of the true label"

    def scores(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> Floats:
        """1 - probability of the true label."""
        self.targets(predictions, labels)
        pairs = zip(predictions, labels, strict=True)
        return np.array([1.0 - p["probabilities"][str(label)] for p, label in pairs])

    def with_set(self, prediction: Prediction, quantile: float) -> Prediction:
        """``set``, likeliest first; ``label`` is null and ``abstained`` true unless the set is one label."""
        ordered = sorted(prediction["probabilities"].items(), key=lambda item: -item[1])
        kept = [name for name, p in ordered if 1.0 - p <= quantile]
        alone = len(kept) == 1
        return prediction | {"label": kept[0] if alone else None, "set": kept, "abstained": not alone}

    def covers(self, prediction: Prediction, label: Any) -> bool:
        """Whether the label is in ``set``."""
        return str(label) in prediction["set"]

    def size(self, prediction: Prediction) -> float:
        """Labels in ``set``."""
        return float(len(prediction["set"]))

    def logits(self, predictions: Sequence[Prediction]) -> Floats:
        """Log-probabilities."""
        return class_logits(_matrix(predictions))

    def targets(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> NDArray[np.int64]:
        """The index of each label."""
        place = _places(predictions)
        return np.array([place[_known(label, place)] for label in labels], np.int64)

    def rescaled(self, prediction: Prediction, temperature: float) -> Prediction:
        """softmax(logits / temperature)."""
        scaled = self.logits([prediction])[0] / temperature
        p = np.exp(scaled - scaled.max())
        return prediction | {"probabilities": _named(prediction, p / p.sum())}

    def reliability(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> tuple[Floats, Floats]:
        """Of the likeliest label of each record."""
        pairs = list(zip(predictions, labels, strict=True))
        return np.array([self.confidence(p) for p, _ in pairs]), np.array([float(self.right(*x)) for x in pairs])

    def confidence(self, prediction: Prediction) -> float:
        """The highest probability."""
        return max(prediction["probabilities"].values())

    def right(self, prediction: Prediction, label: Any) -> bool:
        """Whether the likeliest label is the true one."""
        probabilities = prediction["probabilities"]
        return max(probabilities, key=probabilities.__getitem__) == str(label)


class OfLabels(Conformity):
    """Several labels a record: the largest miss of all labels, so that all of them are covered at once.

    A label is *possible* when 1 - its probability, and *doubtful* when its probability, is at most the quantile; what
    is neither is in doubt too. Then ``sure`` <= true labels <= ``set`` with the stated probability.
    """

    name = "largest |truth - probability| of all labels"

    def scores(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> Floats:
        """The largest miss of each record."""
        found: Floats = np.abs(self.targets(predictions, labels) - _matrix(predictions)).max(axis=1)
        return found

    def with_set(self, prediction: Prediction, quantile: float) -> Prediction:
        """``set``: labels that cannot be ruled out; ``sure``: those that must be; ``abstained`` where they differ."""
        p = prediction["probabilities"]
        kept = [n for n, v in p.items() if v > quantile or 1.0 - v <= quantile]
        sure = [n for n, v in p.items() if v > quantile and 1.0 - v <= quantile]
        alone = kept == sure
        return prediction | {"labels": kept if alone else None, "set": kept, "sure": sure, "abstained": not alone}

    def covers(self, prediction: Prediction, label: Any) -> bool:
        """Whether every true label is in ``set`` and every one of ``sure`` is true."""
        return set(prediction["sure"]) <= set(label) <= set(prediction["set"])

    def size(self, prediction: Prediction) -> float:
        """Labels that are in doubt."""
        return float(len(prediction["set"]) - len(prediction["sure"]))

    def logits(self, predictions: Sequence[Prediction]) -> Floats:
        """Log-odds."""
        return label_logits(_matrix(predictions))

    def targets(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> NDArray[np.int64]:
        """1 where a record has a label."""
        place = _places(predictions)
        found = np.zeros((len(labels), len(place)), np.int64)
        for row, names in zip(found, labels, strict=True):
            row[[place[_known(name, place)] for name in names]] = 1
        return found

    def rescaled(self, prediction: Prediction, temperature: float) -> Prediction:
        """sigmoid(logits / temperature)."""
        scaled = self.logits([prediction])[0] / temperature
        return prediction | {"probabilities": _named(prediction, 1 / (1 + np.exp(-scaled)))}

    def reliability(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> tuple[Floats, Floats]:
        """Of every label of every record."""
        return _matrix(predictions).ravel(), self.targets(predictions, labels).ravel().astype(np.float64)

    def confidence(self, prediction: Prediction) -> float:
        """Of the label that is nearest to a coin's toss."""
        return min(max(v, 1.0 - v) for v in prediction["probabilities"].values())

    def right(self, prediction: Prediction, label: Any) -> bool:
        """Whether exactly the true labels have a probability of 0.5 or more."""
        return {n for n, v in prediction["probabilities"].items() if v >= 0.5} == set(label)


class OfValue(Conformity):
    """A number a record: intervals of one width around the value, from absolute residuals (Lei et al. 2018)."""

    name = "|truth - value|"
    has_probabilities = False

    def scores(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> Floats:
        """Absolute residuals, in the units of the data."""
        return np.array([abs(float(label) - p["value"]) for p, label in zip(predictions, labels, strict=True)])

    def with_set(self, prediction: Prediction, quantile: float) -> Prediction:
        """``low`` and ``high``; null where there is no limit."""
        value = prediction["value"]
        if math.isinf(quantile):
            return prediction | {"low": None, "high": None}
        return prediction | {"low": value - quantile, "high": value + quantile}

    def covers(self, prediction: Prediction, label: Any) -> bool:
        """Whether the number lies in the interval."""
        return prediction["low"] is None or prediction["low"] <= float(label) <= prediction["high"]

    def size(self, prediction: Prediction) -> float:
        """Width, in the units of the data."""
        return math.inf if prediction["low"] is None else float(prediction["high"] - prediction["low"])


def _matrix(predictions: Sequence[Prediction]) -> Floats:
    return np.array([list(p["probabilities"].values()) for p in predictions], np.float64)


def _places(predictions: Sequence[Prediction]) -> dict[str, int]:
    return {name: i for i, name in enumerate(predictions[0]["probabilities"])}


def _known(label: Any, place: dict[str, int]) -> str:
    name = str(label)
    if name not in place:
        raise DataError(f'Label "{name}" is none of the run, which has: {", ".join(place)}.')
    return name


def _named(prediction: Prediction, values: Floats) -> dict[str, float]:
    return dict(zip(prediction["probabilities"], values.tolist(), strict=True))
