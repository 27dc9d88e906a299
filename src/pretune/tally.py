"""Which pieces of many explained records matter, each record weighing the same; with intervals."""

from __future__ import annotations

__all__ = ["Influence", "Tally", "normalised"]

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pretune.intervals import Interval, mean_interval

_TOP = 12


@dataclass(frozen=True)
class Influence:
    """A word, letter or band, and its share in the explanations of a group whose records have it.

    Attributes:
        name: The piece.
        share: Mean over explanations of its score as a share of all their magnitudes, -1 to 1, with its interval.
        num_explanations: Those whose record has it.
    """

    name: str
    share: Interval
    num_explanations: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


class Tally:
    """Shares of pieces over records.

    Args:
        min_records: Pieces of fewer records are left out, and counted; at least 2, since they have an interval.
    """

    def __init__(self, min_records: int = 2) -> None:
        self.min_records = min_records
        self._found: dict[str, list[float]] = defaultdict(list)

    def add(self, pieces: Iterable[tuple[str, float]]) -> None:
        """Adds one record; a piece that it has several times counts once, with the sum."""
        sums: dict[str, float] = defaultdict(float)
        for name, share in pieces:
            sums[name] += share
        for name, share in sums.items():
            self._found[name].append(share)

    @property
    def num_left_out(self) -> int:
        """Pieces of fewer than `min_records` records."""
        return sum(len(shares) < self.min_records for shares in self._found.values())

    @property
    def influences(self) -> list[Influence]:
        """Those of enough records, in the order in which they were first seen."""
        return [
            Influence(name, mean_interval(shares), len(shares))
            for name, shares in self._found.items()
            if len(shares) >= self.min_records
        ]

    def top(self, sign: int) -> list[Influence]:
        """Up to twelve that speak most for (1) or against (-1) the target, even at the weaker end of their interval."""
        some = [i for i in self.influences if sign * i.share.value > 0]
        return sorted(some, key=lambda i: -min(sign * i.share.low, sign * i.share.high))[:_TOP]


def normalised(scores: ArrayLike) -> NDArray[np.float64]:
    """Scores divided by the sum of their magnitudes, so that every record weighs the same."""
    found = np.asarray(scores, np.float64)
    return found / (float(np.abs(found).sum()) or 1.0)
