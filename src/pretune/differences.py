"""Paired differences between two systems over seeds and test records at once, and how many labels one saves.

Two things are drawn at random in a comparison: the few labels (one draw a seed) and the test records (one draw for
all seeds). The variance of a mean difference is that of both, and its interval is Student's t with the degrees of
freedom of Satterthwaite (1946): few seeds make it wide, few test records too.
"""

from __future__ import annotations

__all__ = ["Difference", "Scores", "holm", "labels_needed", "mean_score", "paired"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import isotonic_regression

from pretune.errors import DataError
from pretune.intervals import Floats

_RESAMPLES = 2000


@dataclass(frozen=True)
class Scores:
    """One system with one number of labels, over seeds.

    Attributes:
        values: Test score of each seed, shape (seeds,).
        draws: The same score on resampled test records, the same resamples for every system, (seeds, resamples).
    """

    values: Floats
    draws: Floats

    def __sub__(self, other: Scores) -> Scores:
        """Seed by seed and resample by resample."""
        if self.values.shape != other.values.shape or self.draws.shape != other.draws.shape:
            raise DataError(
                f"Paired scores need the same seeds and test records on both sides, found {self.draws.shape} and "
                f"{other.draws.shape}."
            )
        return Scores(self.values - other.values, self.draws - other.draws)


@dataclass(frozen=True)
class Difference:
    """A mean over seeds (of scores, or of paired differences) with its interval.

    Attributes:
        value: The mean.
        low: Lower end of the interval.
        high: Upper end.
        p: Two-sided, that the true mean is 0.
        n: Seeds.
    """

    value: float
    low: float
    high: float
    p: float
    n: int

    def within(self, margin: float) -> bool:
        """Whether the whole interval is nearer to 0 than `margin`; one without width says nothing.

        Differences that are all the same are those of systems that have learnt nothing, or all there is.
        """
        return -margin < self.low < self.high < margin

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def paired(a: Scores, b: Scores, level: float) -> Difference:
    """Mean of ``a - b`` with an interval over draws of labels and of test records.

    Args:
        a: A system.
        b: Another one, with the same labels, seeds and test records.
        level: Coverage of the interval.

    Raises:
        DataError: Not the same seeds on both sides, or fewer than two.
    """
    return mean_score(a - b, level)


def mean_score(x: Scores, level: float) -> Difference:
    """Mean score with an interval over draws of labels and of test records; arguments as of `paired`.

    Raises:
        DataError: Fewer than two seeds.
    """
    n = len(x.values)
    if n < 2:
        raise DataError(f"A comparison needs at least 2 seeds, found {n}; run more.")
    of_seeds = float(x.values.var(ddof=1)) / n
    of_records = float(np.nanvar(x.draws.mean(axis=0), ddof=1))
    # both hold the interaction of label draws and records, which counts once
    both = max(0.0, float(np.nanvar(x.draws, axis=1, ddof=1).mean()) - of_records) / (n - 1)
    variance = max(of_seeds + of_records - both, of_seeds, of_records)
    value = float(x.values.mean())
    if variance == 0:
        return Difference(value, value, value, float(value == 0), n)
    freedom = (n - 1) * (variance / of_seeds) ** 2 if of_seeds else math.inf
    spread = stats.t(freedom) if freedom < 1e6 else stats.norm()
    error = math.sqrt(variance)
    half = float(spread.ppf((1 + level) / 2)) * error
    return Difference(value, value - half, value + half, float(2 * spread.sf(abs(value) / error)), n)


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false claim among them (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    found = np.ones(len(p))
    found[order] = np.minimum(np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1)), 1.0)
    return found.tolist()


@dataclass(frozen=True)
class Needed:
    """How many labels a reference needs for the score that a system has with `labels`; infinite beyond what was tried.

    Attributes:
        labels: Of the system.
        equivalent: Of the reference.
        low: Lower end of the interval of `equivalent`, over seeds.
        high: Upper end.
    """

    labels: int
    equivalent: float
    low: float
    high: float


def labels_needed(
    own: Floats, labels: int, reference: Mapping[int, Floats], *, level: float, seed: int = 0
) -> Needed | None:
    """Reads off the reference's learning curve how many labels it needs to match a system.

    The curve is monotone (isotonic regression of means on the logarithm of the number of labels) and linear between.

    Args:
        own: Scores of the system with `labels`, one a seed.
        labels: How many it had.
        reference: Scores of the reference by number of labels, the same seeds in the same order.
        level: Of the bootstrap interval over seeds.
        seed: Of the bootstrap.

    Returns:
        None where the reference was tried with fewer than two numbers of labels.
    """
    if len(reference) < 2:
        return None
    numbers = sorted(reference)
    rng = np.random.default_rng(seed)
    num_seeds = min([len(own), *map(len, reference.values())])
    curves = np.stack([reference[n][:num_seeds] for n in numbers])
    found = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, num_seeds, num_seeds)
        found.append(_crossing(numbers, curves[:, drawn].mean(axis=1), float(own[:num_seeds][drawn].mean())))
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(found, [tail, 100 - tail], method="nearest")
    middle = _crossing(numbers, curves.mean(axis=1), float(own[:num_seeds].mean()))
    return Needed(labels, middle, float(low), float(high))


def _crossing(numbers: Sequence[int], scores: Floats, target: float) -> float:
    """Where the curve first reaches the target; the least number tried where it starts above, infinity if never."""
    x = np.log(np.asarray(numbers, float))
    y: NDArray[np.float64] = isotonic_regression(scores).x
    if target <= y[0]:
        return float(numbers[0])
    if target > y[-1]:
        return math.inf
    k = int(np.searchsorted(y, target, side="left"))
    share = (target - y[k - 1]) / (y[k] - y[k - 1])
    return float(np.exp(x[k - 1] + share * (x[k] - x[k - 1])))
