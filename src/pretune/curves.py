"""The answer as pieces of a record vanish, or appear, best first; beside random orders (deletion and insertion)."""

from __future__ import annotations

__all__ = ["Curve", "curve_of"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretune.intervals import Interval, mean_interval

_BAND = (0.05, 0.95)
_BLOCKS = "▁▂▃▄▅▆▇█"
_COLUMNS = 8


@dataclass(frozen=True)
class Curve:
    """How the answer changes as pieces are hidden, or shown, highest score first (RISE; Petsiuk et al. 2018).

    Attributes:
        shares: Share of the pieces that are hidden (deletion) or shown (insertion), from 0 to 1.
        answers: The target's probability (or value) there.
        area: Area under the curve by the trapezoid rule: the mean answer over all shares.
        random_answers: Mean of random orders at each share.
        random_low: Their 5th percentile.
        random_high: Their 95th percentile.
        random_area: Mean area of random orders, with its interval.
        exceeded: Share of random orders whose area is clearly better: smaller for deletion, larger for insertion.
    """

    shares: list[float]
    answers: list[float]
    area: float
    random_answers: list[float]
    random_low: list[float]
    random_high: list[float]
    random_area: Interval
    exceeded: float

    @property
    def extent(self) -> tuple[float, float]:
        """Lowest and highest number that is drawn."""
        every = [*self.answers, *self.random_low, *self.random_high]
        return min(every), max(every)

    def points(self, values: Sequence[float]) -> str:
        """Answers at `shares` in a box of 100 x 100, as an SVG polyline has them."""
        low, high = self.extent
        wide = (high - low) or 1.0
        middle = 50.0 if high == low else 0.0
        places = (100 - middle - 100 * (v - low) / wide for v in values)
        return " ".join(f"{100 * s:.2f},{y:.2f}" for s, y in zip(self.shares, places, strict=True))

    @property
    def band(self) -> str:
        """Outline of the band of random orders, as `points`."""
        forth, back = self.points(self.random_high).split(), self.points(self.random_low).split()
        return " ".join([*forth, *back[::-1]])

    def sparkline(self, values: Sequence[float]) -> str:
        """Answers at evenly spaced shares in a line of blocks."""
        low, high = self.extent
        at = np.interp(np.linspace(0, 1, _COLUMNS), self.shares, values)
        levels = np.round((at - low) / ((high - low) or 1.0) * (len(_BLOCKS) - 1)).astype(int)
        return "".join(_BLOCKS[i] for i in levels)


def curve_of(shares: Sequence[float], answers: NDArray[np.float64], *, falling: bool, same: float = 0.0) -> Curve:
    """The curve of an explanation and of random orders of its pieces.

    Args:
        shares: From 0 to 1, ascending.
        answers: Those of the explanation, then those of each random order, (1 + orders, shares).
        falling: Whether a smaller area is better, as in deletion.
        same: Differences up to this are none.
    """
    areas = np.trapezoid(answers, np.asarray(shares), axis=1)
    better = (areas[0] - areas[1:]) if falling else (areas[1:] - areas[0])
    low, high = np.quantile(answers[1:], _BAND, axis=0)
    return Curve(
        list(shares),
        answers[0].tolist(),
        float(areas[0]),
        answers[1:].mean(0).tolist(),
        low.tolist(),
        high.tolist(),
        mean_interval(areas[1:]),
        float((better > same).mean()),
    )
