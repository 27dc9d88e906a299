"""CKA against the formula written out with matrices of records by records, and against what is known of it."""

from __future__ import annotations

import numpy as np
import pytest

from pretune.errors import DataError
from pretune.similarity import cka_matrix, linear_cka

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 7)), RNG.standard_normal((40, 11))
ROTATION = np.linalg.qr(RNG.standard_normal((7, 7)))[0]


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("same", [X, X @ ROTATION, 3.7 * X, X + 5.0, -0.01 * X @ ROTATION + 2.0])
def test_rotation_scale_and_shift_change_nothing(same, debiased):
    assert linear_cka(X, same, debiased=debiased) == pytest.approx(1.0, abs=1e-9)


def hsic(k, l_):
    centring = np.eye(len(k)) - 1 / len(k)
    return np.trace(k @ centring @ l_ @ centring)


def unbiased_hsic(k, l_):
    """Song et al. (2012), equation 5."""
    n, k, l_ = len(k), k - np.diag(np.diag(k)), l_ - np.diag(np.diag(l_))
    one = np.ones(n)
    whole = np.trace(k @ l_) + one @ k @ one * (one @ l_ @ one) / ((n - 1) * (n - 2))
    return (whole - 2 / (n - 2) * (one @ k @ l_ @ one)) / (n * (n - 3))


@pytest.mark.parametrize(("measure", "debiased"), [(hsic, False), (unbiased_hsic, True)])
def test_the_formula_with_whole_kernels(measure, debiased):
    z = np.hstack([X[:, :3], Y[:, :4]]) + 1.5
    k, l_ = X @ X.T, z @ z.T
    expected = measure(k, l_) / np.sqrt(measure(k, k) * measure(l_, l_))
    assert linear_cka(X, z, debiased=debiased) == pytest.approx(expected, abs=1e-10)


def test_independent_wide_representations_are_unlike_only_to_the_unbiased_estimator():
    pairs = [(RNG.standard_normal((30, 200)), RNG.standard_normal((30, 200))) for _ in range(40)]
    assert abs(np.mean([linear_cka(x, y) for x, y in pairs])) < 0.02
    assert min(linear_cka(x, y, debiased=False) for x, y in pairs) > 0.7


def test_a_matrix_has_a_row_a_layer_of_the_first():
    found = cka_matrix([X, Y], [Y, X, X @ ROTATION])
    assert found.shape == (2, 3)
    assert found[0, 1:] == pytest.approx([1, 1])
    assert found[1, 0] == pytest.approx(1)
    assert found[0, 0] == pytest.approx(linear_cka(X, Y))


def test_what_is_the_same_for_all_records_is_like_nothing():
    assert np.isnan(linear_cka(X, np.full((40, 3), 0.1)))


def test_other_or_few_records_are_refused():
    with pytest.raises(DataError, match="same records"):
        linear_cka(X, Y[:30])
    with pytest.raises(DataError, match="at least 4 records, found 3"):
        linear_cka(X[:3], Y[:3])
