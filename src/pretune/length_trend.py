"""How a number of a record depends on its length: short records scatter more, and that alone is no novelty."""

from __future__ import annotations

__all__ = ["LengthTrend"]

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST_SHARE = 0.05
"""Least variance at a length, as a share of that over all lengths: outside of those seen, the line may cross 0."""


_LEAST_COLUMN = 1e-4
"""The same of a column, as a share of that of all: a unit that is silent in the pool may say something later."""


@dataclass(frozen=True)
class LengthTrend:
    """Mean and variance of columns as functions of length, fitted by least squares.

    The mean is linear in 1, 1 / sqrt(n) and 1 / n; the variance in 1 and 1 / n, as that of a mean over n places is.

    Attributes:
        mean: Coefficients, shape (3, columns); (1, columns) where all lengths are equal.
        variance: Coefficients, shape (2, columns) or (1, columns).
        least: Least variance of each column, shape (columns,).
    """

    mean: Floats
    variance: Floats
    least: Floats

    @classmethod
    def fitted(cls, values: Floats, lengths: Floats) -> LengthTrend:
        """The trend of values (records, columns) in lengths (records,)."""
        terms = 3 if np.ptp(lengths) > 0 else 1
        mean = np.asarray(np.linalg.lstsq(_powers(lengths, terms), values, rcond=None)[0], dtype=np.float64)
        squares = np.square(values - _powers(lengths, terms) @ mean)
        rows = _powers(lengths, terms)[:, ::2]
        weights = 1 / rows.sum(1, keepdims=True)  # a square varies with the variance itself
        variance = np.asarray(np.linalg.lstsq(rows * weights, squares * weights, rcond=None)[0], dtype=np.float64)
        return cls(mean, variance, _LEAST_SHARE * squares.mean(0) + _LEAST_COLUMN * squares.mean() + 1e-12)

    def standardised(self, values: Floats, lengths: Floats) -> Floats:
        """Values less their mean at that length, in its standard deviations, shape (records, columns)."""
        powers = _powers(lengths, len(self.mean))
        spread = np.sqrt(np.maximum(powers[:, ::2] @ self.variance, self.least))
        found: Floats = (values - powers @ self.mean) / spread
        return found


def _powers(lengths: Floats, terms: int) -> Floats:
    """1, n^(-1/2), 1 / n: the first `terms` of them, shape (records, terms)."""
    return np.asarray(lengths, dtype=np.float64)[:, None] ** (-np.arange(terms) / 2)
