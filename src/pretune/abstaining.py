"""What sets of stated coverage are worth on held-out records: coverage, sizes, abstentions, risk against coverage."""

from __future__ import annotations

__all__ = ["Abstention", "abstention"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from pretune.conformity import Conformity
from pretune.intervals import LEVEL, Interval, exact_share
from pretune.tasks.base import Prediction

_POINTS = 200


@dataclass(frozen=True)
class Abstention:
    """Sets of one level on held-out records.

    Attributes:
        level: Coverage that was asked for.
        coverage: Share of the sets that hold the true answer, with its exact interval.
        size: Mean answers in a set; of several labels, those in doubt; of numbers the width of the interval.
        abstained: Share of the records without a single answer, with its exact interval; None of numbers.
        answered: Share that is right of the records with a single answer; None of numbers.
        everything: Accuracy over all records, as if none had been left out; None of numbers.
        risk: What an order by confidence is worth: ``kept`` (share of the records, the surest) and ``risk`` (share of
            wrong answers among them); empty of numbers.
    """

    level: float
    coverage: Interval
    size: float
    abstained: Interval | None
    answered: Interval | None
    everything: Interval | None
    risk: list[dict[str, float]]

    def table(self) -> Table:
        """For the terminal."""
        table = Table(f"sets of level {self.level:g}", "value", f"{LEVEL:.0%} interval")
        rows = {
            "coverage": self.coverage,
            "abstained": self.abstained,
            "accuracy of what is answered": self.answered,
            "accuracy of everything": self.everything,
        }
        for name, value in rows.items():
            if value is not None:
                table.add_row(name, _number(value.value), f"{value.low:.4f} – {value.high:.4f}")
        table.add_row("width of the interval" if self.abstained is None else "mean size", _number(self.size), "")
        return table


def _number(value: float) -> str:
    return "-" if math.isnan(value) else "no limit" if math.isinf(value) else f"{value:.4f}"


def abstention(
    conformity: Conformity, predicted: Sequence[Prediction], labels: Sequence[Any], *, level: float, quantile: float
) -> Abstention:
    """Judges sets on records that neither training nor calibration has seen.

    Args:
        conformity: Of the task.
        predicted: Without sets.
        labels: Raw labels, same order.
        level: Coverage of the sets.
        quantile: The conformity score that belongs to it.
    """
    sets = [conformity.with_set(p, quantile) for p in predicted]
    n = len(sets)
    covered = exact_share(sum(map(conformity.covers, sets, labels)), n)
    size = float(np.mean([conformity.size(s) for s in sets]))
    if not conformity.has_probabilities:
        return Abstention(level, covered, size, None, None, None, [])
    right = np.array([conformity.right(*pair) for pair in zip(predicted, labels, strict=True)])
    silent = np.array([bool(s["abstained"]) for s in sets])
    return Abstention(
        level,
        covered,
        size,
        exact_share(int(silent.sum()), n),
        exact_share(int(right[~silent].sum()), int((~silent).sum())),
        exact_share(int(right.sum()), n),
        risk_curve(np.array([conformity.confidence(p) for p in predicted]), right),
    )


def risk_curve(confidence: Any, right: Any) -> list[dict[str, float]]:
    """Share of wrong answers among the surest records, for every share of them (El-Yaniv & Wiener 2010).

    Args:
        confidence: Shape (records,); records of equal confidence are kept or left out together.
        right: Whether the answer is right, shape (records,).
    """
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~np.asarray(right, bool)[order])
    ends = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    if len(ends) > _POINTS:
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, _POINTS).round().astype(int))]
    return [{"kept": (e + 1) / len(order), "risk": wrong[e] / (e + 1)} for e in ends.tolist()]
