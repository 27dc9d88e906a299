"""Intervals cover what they say, by simulation, and equal closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pretune.errors import ConfigError, DataError
from pretune.intervals import bootstrap, fold_difference, mean_interval, paired_difference, resampled_indices


def test_mean_interval_equals_scipy():
    x = [0.81, 0.84, 0.79, 0.86, 0.80]
    ours = mean_interval(x, 0.9)
    low, high = stats.t.interval(0.9, len(x) - 1, loc=np.mean(x), scale=stats.sem(x))
    assert (ours.low, ours.high) == pytest.approx((low, high))
    assert ours.value == pytest.approx(np.mean(x))
    assert ours.n == 5


def test_fold_difference_is_wider_than_scipy_by_what_folds_share():
    a, b = [0.9, 0.8, 0.85, 0.7], [0.85, 0.8, 0.7, 0.75]
    ours, gaps = fold_difference(a, b), np.subtract(a, b)
    low, high = stats.t.interval(0.95, 3, loc=gaps.mean(), scale=np.sqrt((1 / 4 + 1 / 3) * gaps.var(ddof=1)))
    assert (ours.low, ours.high) == pytest.approx((low, high))
    assert stats.ttest_rel(a, b).confidence_interval().low > ours.low
    with pytest.raises(DataError, match="found 2 and 3"):
        fold_difference([1, 2], [1, 2, 3])
    with pytest.raises(DataError, match="two or more"):
        fold_difference([1], [2])


@pytest.mark.parametrize("seeds", [3, 5])
def test_mean_interval_covers(seeds):
    rng = np.random.default_rng(0)
    hits = [not mean_interval(rng.normal(2, 1, seeds)).excludes(2) for _ in range(2000)]
    assert 0.935 < np.mean(hits) < 0.965


def test_bootstrap_of_accuracy_covers():
    rng = np.random.default_rng(1)
    hits = [not bootstrap(rng.random(200) < 0.8, seed=i, resamples=500).excludes(0.8) for i in range(600)]
    assert 0.92 < np.mean(hits) < 0.975


def test_paired_difference_covers_and_is_narrower():
    rng = np.random.default_rng(2)
    hits, paired, apart = [], [], []
    for i in range(400):
        shared = rng.normal(0, 1, 150)
        a, b = shared + rng.normal(0.3, 0.5, 150), shared + rng.normal(0, 0.5, 150)
        found = paired_difference(a, b, resamples=400, seed=i)
        hits.append(not found.excludes(0.3))
        paired.append(found.high - found.low)
        apart.append(2 * 1.96 * np.sqrt(a.var() / 150 + b.var() / 150))
    assert 0.92 < np.mean(hits) < 0.975
    assert np.mean(paired) < 0.7 * np.mean(apart)


def test_bootstrap_with_a_statistic_equals_the_mean_path():
    x = np.random.default_rng(3).normal(size=100)
    assert bootstrap(x, np.mean, seed=5) == bootstrap(x, seed=5)
    assert bootstrap(x, seed=5) != bootstrap(x, seed=6)


def test_bootstrap_agrees_with_scipy():
    x = np.random.default_rng(4).exponential(size=80)
    ours = bootstrap(x, np.median, resamples=4000)
    theirs = stats.bootstrap((x,), np.median, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.04)


def test_blocks_of_indices_do_not_depend_on_memory(monkeypatch):
    whole = np.concatenate(list(resampled_indices(50, 30, seed=1)))
    monkeypatch.setattr("pretune.intervals._BLOCK", 200)
    assert np.array_equal(whole, np.concatenate(list(resampled_indices(50, 30, seed=1))))
    assert whole.shape == (30, 50)


def test_errors_say_what_to_do():
    with pytest.raises(DataError, match="at least 2 values, found 1"):
        mean_interval([0.5])
    with pytest.raises(DataError, match="nan at position 1"):
        bootstrap([0.5, float("nan")])
    with pytest.raises(DataError, match="found 2 and 3"):
        paired_difference([1, 0], [1, 0, 1])
    with pytest.raises(ConfigError, match="between 0 and 1"):
        mean_interval([1, 2], level=95)
