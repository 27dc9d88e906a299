"""Does an explanation name the pieces that the model used? ERASER's two tests and RISE's, beside random orders."""

from __future__ import annotations

__all__ = ["CURVE_RATES", "FEWEST", "RATES", "Faithfulness", "faithfulness"]

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pretune.curves import Curve, curve_of
from pretune.intervals import Interval, mean_interval
from pretune.pieces import Pieces
from pretune.tasks.base import Task

RATES = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Shares of the pieces that are hidden or kept: the bins of ERASER's area over the perturbation curve."""

CURVE_RATES = (*RATES, 0.75)
"""Shares at which deletion and insertion curves have points beside 0 and 1: those of `RATES` cost nothing more."""

FEWEST = 4
"""Fewest pieces whose order can be told from a random one."""

_CHANCE = 0.05
_SAME = 0.01  # of the largest fall: smaller differences are none
_ROUNDING = 1e-6  # of the answer: what batches of another size change


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
        deletion: The answer as the top pieces are hidden, more and more of them; a small area is good.
        insertion: The answer as the top pieces are shown, the others hidden; a large area is good.
        num_pieces: Words, patches or cells of the record.
        noun: ``words``, ``patches`` or ``cells``.
    """

    comprehensiveness: float
    sufficiency: float
    random_comprehensiveness: Interval
    random_sufficiency: Interval
    exceeded_comprehensiveness: float
    exceeded_sufficiency: float
    deletion: Curve
    insertion: Curve
    num_pieces: int
    noun: str = "words"

    @property
    def passed(self) -> list[str]:
        """Tests in which it beats the mean random order, outside its interval, and 95% of orders."""
        found = []
        if self.num_pieces >= FEWEST:
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
    def level(self) -> Literal["better", "partly", "no better", "too few"]:
        """Whether it beats random orders in both tests, in one or in none, or whether that cannot be told."""
        if self.num_pieces < FEWEST:
            return "too few"
        return ("no better", "partly", "better")[len(self.passed)]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, with its `level` and `verdict`."""
        return asdict(self) | {"level": self.level, "verdict": self.verdict}

    @property
    def verdict(self) -> str:
        """One plain sentence."""
        if self.num_pieces < FEWEST:
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
    sizes = sorted({0, num, *(math.ceil(rate * num) for rate in CURVE_RATES)})
    without, alone = _answers(task, pieces, orders, sizes, of)
    tops = [sizes.index(math.ceil(rate * num)) for rate in RATES]
    full = without[0, 0]
    falls, rests = full - without[:, tops], full - alone[:, tops]
    comp, suff = falls.mean(1), rests.mean(1)
    same = _SAME * float(np.abs([comp, suff]).max())
    shares = [k / num for k in sizes]
    return Faithfulness(
        float(comp[0]),
        float(suff[0]),
        mean_interval(comp[1:]),
        mean_interval(suff[1:]),
        float((comp[1:] - comp[0] > same).mean()),
        float((suff[0] - suff[1:] > same).mean()),
        curve_of(shares, without, falling=True, same=same),
        curve_of(shares, alone, falling=False, same=same),
        num,
        pieces.noun,
    )


def _answers(
    task: Task, pieces: Pieces, orders: Sequence[NDArray[np.int64]], sizes: Sequence[int], of: object
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The answer without the top pieces, and with these alone, each (orders, sizes); equal sets are asked for once."""
    everything = frozenset(range(len(pieces)))
    tops = [[frozenset(order[:k].tolist()) for k in sizes] for order in orders]
    hidden = [tops, [[everything - top for top in row] for row in tops]]
    distinct = list(dict.fromkeys([frozenset[int](), *(h for table in hidden for row in table for h in row)]))
    answers = np.array(pieces.answers(task, distinct, of), np.float64)
    answers[np.abs(answers - answers[0]) <= _ROUNDING * max(1.0, abs(answers[0]))] = answers[0]
    found = dict(zip(distinct, answers.tolist(), strict=True))
    without, alone = (np.array([[found[h] for h in row] for row in table]) for table in hidden)
    return without, alone
