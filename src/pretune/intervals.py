"""Intervals: Student t over seeds and folds, percentile bootstrap over records, paired bootstrap for two systems."""

from __future__ import annotations

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "Interval",
    "bootstrap",
    "exact_share",
    "fold_difference",
    "mean_interval",
    "paired_difference",
    "percentile_interval",
    "resampled_indices",
]

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pretune.errors import ConfigError, DataError

LEVEL = 0.95
RESAMPLES = 1000

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]

_BLOCK = 4_000_000  # indices drawn at a time: 32 MB, whatever the number of records


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval, and how that was computed."""

    value: float
    low: float
    high: float
    level: float = LEVEL
    method: str = "bootstrap"
    n: int = 0
    """Number of seeds (`mean_interval`), folds (`fold_difference`), records (`exact_share`) or resamples behind it."""

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def within(self, least: float, most: float) -> Interval:
        """The same with ends that the estimate can have (Student's t knows no bounds)."""
        return replace(self, low=max(self.low, least), high=min(self.high, most))

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside."""
        return not self.low <= value <= self.high

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def mean_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean over independent runs (seeds) with Student's t interval.

    Args:
        values: One number a run, shape (runs,), at least two.
        level: Coverage under normality.

    Raises:
        DataError: Fewer than two values, or one that is not finite.
    """
    x = _finite(values, "mean_interval")
    if len(x) < 2:
        raise DataError(f"An interval over seeds needs at least 2 values, found {len(x)}; run more seeds.")
    mean = float(x.mean())
    half = float(stats.t.ppf((1 + _checked(level)) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half, level, "student_t", len(x))


def exact_share(count: int, total: int, level: float = LEVEL) -> Interval:
    """A share with its exact binomial interval (Clopper & Pearson 1934); the whole of 0 to 1 where `total` is 0."""
    if not total:
        return Interval(float("nan"), 0.0, 1.0, _checked(level), "exact_binomial", 0)
    found = stats.binomtest(count, total).proportion_ci(_checked(level), method="exact")
    return Interval(count / total, float(found.low), float(found.high), level, "exact_binomial", total)


def fold_difference(a: ArrayLike, b: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean of ``a - b`` over the folds of one cross-validation, with the corrected t interval.

    Folds share training records, so that their scores vary together and Student's t would be too narrow: the variance
    of the mean is taken as ``(1/k + 1/(k - 1)) * s^2`` for k folds (Nadeau & Bengio 2003, "Inference for the
    Generalization Error").

    Args:
        a: One score a fold of the first system, shape (folds,), at least two.
        b: The same of the second system, on the same folds.
        level: Coverage, approximately.

    Raises:
        DataError: Different lengths, fewer than two folds, or a score that is not finite.
    """
    x, y = _finite(a, "fold_difference"), _finite(b, "fold_difference")
    if x.shape != y.shape or len(x) < 2:
        raise DataError(
            f"A difference over folds needs the same two or more on both sides, found {len(x)} and {len(y)}."
        )
    k, gaps = len(x), x - y
    mean, spread = float(gaps.mean()), float(gaps.std(ddof=1) * np.sqrt(1 / k + 1 / (k - 1)))
    half = float(stats.t.ppf((1 + _checked(level)) / 2, k - 1)) * spread
    return Interval(mean, mean - half, mean + half, level, "corrected_student_t", k)


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[Floats], float] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over records (Efron 1979).

    Args:
        values: One value a record, shape (records,), or one row a record, shape (records, columns).
        statistic: From resampled values to a number; None is the mean, which is computed vectorised.
        level: Coverage.
        resamples: Number of resamples.
        seed: Of the resampling.

    Raises:
        DataError: No values, or one that is not finite.
    """
    x = _finite(values, "bootstrap")
    drawn = resampled_indices(len(x), resamples, seed)
    if statistic is None:
        means = np.concatenate([x[block].mean(axis=1) for block in drawn])
        return percentile_interval(float(x.mean()), means, level)
    found = [float(statistic(x[row])) for block in drawn for row in block]
    return percentile_interval(float(statistic(x)), found, level)


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean of ``a - b`` over the same records with a paired percentile bootstrap.

    Args:
        a: One score a record of the first system (e.g. 1.0 where it is right), shape (records,).
        b: The same of the second system, in the same order.
        level: Coverage.
        resamples: Number of resamples.
        seed: Of the resampling.

    Raises:
        DataError: Different lengths, none, or values that are not finite.
    """
    x, y = _finite(a, "paired_difference"), _finite(b, "paired_difference")
    if x.shape != y.shape:
        raise DataError(f"Paired scores need the same records on both sides, found {len(x)} and {len(y)}.")
    return bootstrap(x - y, level=level, resamples=resamples, seed=seed)


def percentile_interval(value: float, resampled: ArrayLike, level: float = LEVEL) -> Interval:
    """The interval between the outer percentiles of resampled statistics (NaN ones are left out)."""
    found = np.asarray(resampled, dtype=np.float64)
    found = found[np.isfinite(found)]
    tail = (1 - _checked(level)) / 2
    low, high = np.quantile(found, [tail, 1 - tail]) if len(found) else (np.nan, np.nan)
    return Interval(value, float(low), float(high), level, "bootstrap", len(found))


def resampled_indices(size: int, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Indices]:
    """Draws `resamples` times `size` record indices with replacement, in blocks of shape (rows, size)."""
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // max(size, 1))
    for start in range(0, resamples, rows):
        yield rng.integers(0, size, (min(rows, resamples - start), size))


def _finite(values: ArrayLike | Sequence[float], what: str) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        raise DataError(f"{what} needs at least one value, found none.")
    if not np.isfinite(x).all():
        row = int(np.argmin(np.isfinite(x).reshape(len(x), -1).all(axis=1)))
        raise DataError(f"{what} needs finite values, found {x[row]} at position {row}.")
    return x


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, found {level}; 0.95 is usual.")
    return level
