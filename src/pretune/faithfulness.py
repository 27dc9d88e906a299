"""Does an explanation name the words, patches or sounds that the model used? ERASER's two tests, beside random ones."""

from __future__ import annotations

__all__ = ["RATES", "Faithfulness", "faithfulness"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretune.intervals import Interval, mean_interval
from pretune.pieces import Pieces
from pretune.tasks.base import Task

RATES = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Shares of the pieces that are hidden or kept: the bins of ERASER's area over the perturbation curve."""

_FEWEST = 4
_CHANCE = 0.05
_SAME = 0.01  # of the largest fall: smaller differences are none


@dataclass(frozen=True)
class Faithfulness:
    """Comprehensiveness and sufficiency (DeYoung et al. 2020), averaged over `RATES`, and of random orders.

    Attributes:
        comprehensiveness: Fall of the target's probability when the top pieces are hidden; higher is better.
        sufficiency: Fall when only the top pieces are kept; lower is better.
        random_comprehensiveness: Mean of random orders of the same pieces, with its interval.
        random_sufficiency: The same for sufficiency.
        exceeded_comprehensiveness: Share of random orders that clearly do better than the explanation.
        exceeded_sufficiency: The same for sufficiency.
        num_pieces: Words, patches or cells of the record.
        noun: ``words``, ``patches`` or ``cells``.
    """

    comprehensiveness: float
    sufficiency: float
    random_comprehensiveness: Interval
    random_sufficiency: Interval
    exceeded_comprehensiveness: float
    exceeded_sufficiency: float
    num_pieces: int
    noun: str = "words"

    @property
    def passed(self) -> list[str]:
        """Tests in which it beats the mean random order, outside its interval, and 95% of orders."""
        found = []
        if self.num_pieces >= _FEWEST:
            above = self.comprehensiveness > self.random_comprehensiveness.high
            below = self.sufficiency < self.random_sufficiency.low
            found += ["comprehensiveness"] * (above and self.exceeded_comprehensiveness <= _CHANCE)
            found += ["sufficiency"] * (below and self.exceeded_sufficiency <= _CHANCE)
        return found

    @property
    def better_than_random(self) -> bool:
        """Whether both tests are passed."""
        return len(self.passed) == 2

    @property
    def verdict(self) -> str:
        """One plain sentence."""
        if self.num_pieces < _FEWEST:
            return f"Too few {self.noun} ({self.num_pieces}) to tell the explanation from a random one."
        better = f"{self.exceeded_comprehensiveness:.0%} and {self.exceeded_sufficiency:.0%}"
        shares = f"{better} of random orders do better in comprehensiveness and sufficiency"
        if self.better_than_random:
            return f"Better than random: {shares}."
        if self.passed:
            return f"Better than random in {self.passed[0]} only: {shares}."
        return f"No better than random ({shares}): do not rely on this explanation."


def faithfulness(
    task: Task, pieces: Pieces, scores: Sequence[float], *, of: object, num_random: int = 20, seed: int = 0
) -> Faithfulness | None:
    """Hides the highest-scored words, and all but these, and compares with random orders.

    Args:
        task: In eval mode.
        pieces: Of the record.
        scores: One a piece; highest first is the order in which pieces are hidden.
        of: The target, as `Task.target` takes it.
        num_random: Random orders, at least 2.
        seed: Of the random orders.

    Returns:
        None for a record of fewer than two pieces.
    """
    num = len(pieces)
    if num < 2:
        return None
    rng = np.random.default_rng(seed)
    orders = [
        np.argsort(-np.asarray(scores), kind="stable"),
        *(rng.permutation(num) for _ in range(num_random)),
    ]
    falls = _falls(task, pieces, orders, of)
    comp, suff = falls[:, 0], falls[:, 1]
    same = _SAME * float(np.abs(falls).max())
    return Faithfulness(
        float(comp[0]),
        float(suff[0]),
        mean_interval(comp[1:]),
        mean_interval(suff[1:]),
        float((comp[1:] - comp[0] > same).mean()),
        float((suff[0] - suff[1:] > same).mean()),
        num,
        pieces.noun,
    )


def _falls(task: Task, pieces: Pieces, orders: Sequence[NDArray[np.int64]], of: object) -> NDArray[np.float64]:
    """Mean fall of the probability, shape (orders, 2): top pieces hidden, only top pieces kept."""
    num = len(pieces)
    sizes = [math.ceil(rate * num) for rate in RATES]
    tops = [[frozenset(order[:k].tolist()) for k in sizes] for order in orders]
    everything = frozenset(range(num))
    hidden = [[(top, everything - top) for top in row] for row in tops]
    distinct = list(dict.fromkeys([frozenset[int](), *(h for row in hidden for pair in row for h in pair)]))
    found = dict(zip(distinct, pieces.answers(task, distinct, of), strict=True))
    full = found[frozenset()]
    falls = np.array([[[full - found[h] for h in pair] for pair in row] for row in hidden], np.float64)
    averages: NDArray[np.float64] = falls.mean(axis=1)
    return averages
