"""How alike two representations of the same records are: linear centred kernel alignment (CKA)."""

from __future__ import annotations

__all__ = ["cka_matrix", "linear_cka"]

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pretune.errors import DataError
from pretune.intervals import Floats

_FEWEST = 4
"""Records that the unbiased estimator needs: it divides by n - 3."""


def linear_cka(x: ArrayLike, y: ArrayLike, *, debiased: bool = True) -> float:
    """Linear CKA (Kornblith et al. 2019): 1 for representations that differ by rotation and scale alone.

    Args:
        x: One row a record, shape (records, width).
        y: The same records in another representation, shape (records, other width).
        debiased: With the unbiased estimator of the Hilbert-Schmidt independence criterion (Song et al. 2012), which
            is 0 on average for independent representations, however few the records are; it can lie slightly below 0.
            Without it few records and wide representations look alike that are not.

    Returns:
        NaN where a representation is the same for all records.

    Raises:
        DataError: Different records, or fewer than 4.
    """
    return float(cka_matrix([x], [y], debiased=debiased)[0, 0])


def cka_matrix(first: Sequence[ArrayLike], second: Sequence[ArrayLike], *, debiased: bool = True) -> Floats:
    """`linear_cka` of every layer of one network with every layer of another, shape (layers, other layers)."""
    xs, ys = [_centred(x) for x in first], [_centred(y) for y in second]
    if len({len(x) for x in (*xs, *ys)}) != 1:
        raise DataError(f"CKA compares the same records, found {sorted({len(x) for x in (*xs, *ys)})} of them.")
    measure = _unbiased if debiased else _biased
    own_x, own_y = (np.array([measure(v, v) for v in side]) for side in (xs, ys))
    both = np.array([[measure(x, y) for y in ys] for x in xs])
    scale = np.sqrt(np.clip(own_x, 0, None)[:, None] * np.clip(own_y, 0, None)[None])
    return np.divide(both, scale, out=np.full_like(both, np.nan), where=scale > 0)


def _centred(values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if len(x) < _FEWEST:
        raise DataError(f"CKA needs at least {_FEWEST} records, found {len(x)}.")
    x = x - x.mean(0)
    # what rounding leaves of a constant is no representation
    size = np.abs(np.asarray(values, dtype=np.float64)).max(initial=0.0)
    return np.where(np.abs(x).max(initial=0.0) > 1e-12 * size, x, 0.0)


def _biased(x: Floats, y: Floats) -> float:
    return float(np.square(x.T @ y).sum())


def _unbiased(x: Floats, y: Floats) -> float:
    """HSIC_1 of Song et al. (2012), times a factor that cancels, without making the matrices of records by records."""
    n = len(x)
    k, l_ = _Kernel(x), _Kernel(y)
    trace = np.square(x.T @ y).sum() - k.diagonal @ l_.diagonal
    return float(trace + k.total * l_.total / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.rows @ l_.rows))


class _Kernel:
    """Sums of the linear kernel of centred x (records, width), its diagonal left out."""

    def __init__(self, x: NDArray[np.float64]) -> None:
        self.diagonal = np.square(x).sum(1)
        self.rows = x @ x.sum(0) - self.diagonal
        self.total = float(self.rows.sum())
