"""Paired differences: coverage by simulation, Holm's rule by hand, learning curves read off by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pretune import resampling
from pretune.differences import Scores, holm, labels_needed, mean_score, paired
from pretune.errors import DataError
from pretune.label_draws import drawn, label_numbers
from pretune.tasks.classification import Classification


def crossed(rng: np.random.Generator, seeds: int, records: int, of_seeds: float, of_records: float, rest: float):
    """Per-record differences with mean 0: an effect a seed, one a record, and noise."""
    return (
        of_seeds * rng.standard_normal((seeds, 1))
        + of_records * rng.standard_normal((1, records))
        + rest * rng.standard_normal((seeds, records))
    )


def scored(values: np.ndarray, rng: np.random.Generator) -> Scores:
    counts = rng.multinomial(values.shape[1], np.full(values.shape[1], 1 / values.shape[1]), size=300)
    return Scores(values.mean(axis=1), values @ counts.T / values.shape[1])


@pytest.mark.parametrize(
    ("of_seeds", "of_records", "rest"), [(0.1, 0.0, 0.5), (0.0, 0.5, 0.5), (0.05, 0.5, 1.0), (0.02, 0.3, 1.0)]
)
def test_intervals_cover_the_truth_as_often_as_they_say(of_seeds: float, of_records: float, rest: float) -> None:
    rng = np.random.default_rng(0)
    trials = 600
    inside = 0
    for _ in range(trials):
        found = mean_score(scored(crossed(rng, 5, 120, of_seeds, of_records, rest), rng), 0.95)
        inside += found.low <= 0 <= found.high
    # no less than 95 % within chance (a one-sided binomial bound of 1 in 10,000), and not wastefully wide
    assert inside >= stats.binom.ppf(1e-4, trials, 0.95)
    assert inside / trials <= 0.995


def test_p_values_are_those_of_the_interval() -> None:
    rng = np.random.default_rng(1)
    a, b = (scored(crossed(rng, 6, 80, 0.1, 0.3, 0.5) + shift, np.random.default_rng(2)) for shift in (0.2, 0.0))
    found = paired(a, b, 0.95)
    touching = paired(a, b, 1 - found.p)
    assert min(abs(touching.low), abs(touching.high)) < 1e-9
    assert found.value == pytest.approx((a.values - b.values).mean())


def test_one_system_against_itself_has_no_difference() -> None:
    rng = np.random.default_rng(3)
    a = scored(crossed(rng, 5, 40, 0.1, 0.3, 0.5), rng)
    found = paired(a, a, 0.95)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert not found.within(0.01), "of differences without spread nothing can be said: both may have learnt nothing"


def test_what_is_not_paired_is_refused() -> None:
    rng = np.random.default_rng(4)
    a, b = (scored(crossed(rng, n, 40, 0.1, 0.3, 0.5), rng) for n in (5, 4))
    with pytest.raises(DataError, match="same seeds and test records"):
        paired(a, b, 0.95)
    with pytest.raises(DataError, match="at least 2 seeds"):
        mean_score(scored(crossed(rng, 1, 40, 0.1, 0.3, 0.5), rng), 0.95)


def test_holm_by_hand() -> None:
    # 4 x 0.01, then 3 x 0.02, then 2 x 0.03 below 0.06 before it, then 0.5
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_the_rate_of_any_false_claim() -> None:
    rng = np.random.default_rng(5)
    false = sum(min(holm(rng.random(8).tolist())) < 0.05 for _ in range(2000))
    assert false <= stats.binom.ppf(1 - 1e-4, 2000, 0.05)


def test_labels_needed_by_hand() -> None:
    curve = {16: np.full(5, 0.5), 64: np.full(5, 0.6), 256: np.full(5, 0.8)}
    needed = labels_needed(np.full(5, 0.7), 16, curve, level=0.95)
    assert needed is not None
    # half way between 64 and 256 on the logarithm
    assert needed.equivalent == pytest.approx(128)
    assert needed.low == needed.high == pytest.approx(128)
    assert labels_needed(np.full(5, 0.4), 64, curve, level=0.95).equivalent == 16  # type: ignore[union-attr]
    assert math.isinf(labels_needed(np.full(5, 0.9), 16, curve, level=0.95).equivalent)  # type: ignore[union-attr]
    assert labels_needed(np.full(5, 0.7), 16, {16: np.full(5, 0.5)}, level=0.95) is None


def test_a_curve_that_falls_is_made_flat() -> None:
    curve = {16: np.full(3, 0.6), 64: np.full(3, 0.4), 256: np.full(3, 0.9)}
    needed = labels_needed(np.full(3, 0.7), 16, curve, level=0.95)
    assert needed is not None
    assert needed.equivalent == pytest.approx(128)  # from (64, 0.5) to (256, 0.9)


def test_resampled_accuracies_are_those_of_the_same_records() -> None:
    task = Classification()
    truth = ["a", "b"] * 50
    right = [{"label": t, "probabilities": {}} for t in truth]
    wrong = [{"label": "a", "probabilities": {}} for _ in truth]
    one = resampling.scored(task, wrong, truth, "accuracy", resamples=200).draws
    again = resampling.scored(task, wrong, truth, "accuracy", resamples=200).draws
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(resampling.scored(task, right, truth, "accuracy", resamples=200).draws, 1.0)
    assert one.std() == pytest.approx(math.sqrt(0.25 / 100), rel=0.2)


def test_a_slow_metric_is_resampled_on_the_same_records() -> None:
    class Slow(Classification):
        def metrics(self, predictions, labels):  # type: ignore[no-untyped-def]
            return {"double": 2 * super().metrics(predictions, labels)["accuracy"]}

    truth = ["a", "b"] * 50
    wrong = [{"label": "a", "probabilities": {}} for _ in truth]
    fast = resampling.scored(Classification(), wrong, truth, "accuracy", resamples=60).draws
    slow = resampling.scored(Slow(), wrong, truth, "double", resamples=60).draws
    np.testing.assert_allclose(slow, 2 * fast)


def test_draws_are_nested_and_hold_every_class() -> None:
    labels = [*"aaaaaaaaaab", "c"]
    order = drawn(labels, 3)
    assert sorted(order) == list(range(12))
    assert {labels[i] for i in order[:3]} == set("abc")
    assert order == drawn(labels, 3) != drawn(labels, 4)


def test_numbers_of_labels() -> None:
    labels = ["a", "b"] * 10
    assert label_numbers("4,all,8", labels) == [4, 8, 20]
    assert label_numbers([4, "all"], labels) == [4, 20]
    assert label_numbers(None, labels) == [16, 20]
    assert label_numbers(None, [f"class {i % 20}" for i in range(100)]) == [64, 100]
    assert label_numbers(None, labels[:10]) == [10]
    for wrong, message in (("4,x", 'found "x"'), ("40", "fewer than the 40"), ("1", "cannot hold one of each of 2")):
        with pytest.raises(ValueError, match=message):
            label_numbers(wrong, labels)
