"""Calibration, conformal sets and risk curves against worked numbers and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pretune.abstaining import abstention, risk_curve
from pretune.calibrating import cross_fitted
from pretune.conformity import OfClass, OfLabels, OfValue, conformal_quantile, conformal_rank
from pretune.errors import DataError
from pretune.evaluation import binned
from pretune.intervals import exact_share
from pretune.temperature import class_logits, class_loss, fitted_temperature, label_logits


def predicted(p, names="abc"):
    rows = [dict(zip(names, row, strict=False)) for row in np.atleast_2d(p).tolist()]
    return [{"label": max(row, key=row.get), "probabilities": row} for row in rows]


def test_calibration_error_by_hand():
    # bin (0.5, 0.75]: mean confidence 0.65, accuracy 1/2; bin (0.75, 1]: 0.9, accuracy 1; weights 1/2
    found = binned(np.array([0.6, 0.7, 0.8, 1.0]), np.array([1.0, 0.0, 1.0, 1.0]), num_bins=4)
    assert found.ece == pytest.approx(0.5 * abs(0.65 - 0.5) + 0.5 * abs(0.9 - 1.0))
    assert [b["count"] for b in found.bins] == [2, 2]


@pytest.mark.parametrize("planted", [0.5, 1.0, 2.5])
def test_a_planted_temperature_is_recovered(planted):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (6000, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = np.array([rng.choice(4, p=row) for row in p])
    assert fitted_temperature(logits * planted, targets) == pytest.approx(planted, rel=0.06)


def test_a_planted_temperature_of_several_labels_is_recovered():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (3000, 5))
    targets = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    assert fitted_temperature(logits * 3, targets) == pytest.approx(3, rel=0.06)


def test_nothing_wrong_gives_no_temperature():
    assert fitted_temperature(np.array([[3.0, 0.0], [0.0, 1.0]]), np.array([0, 1])) == 1.0


def test_a_temperature_never_changes_the_label_and_scales_the_logits():
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 3, (200, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for temperature in (0.3, 4.0):
        wanted = np.exp(logits / temperature) / np.exp(logits / temperature).sum(1, keepdims=True)
        for row, expected in zip(predicted(p), wanted, strict=True):
            after = OfClass().rescaled(row, temperature)
            assert list(after["probabilities"].values()) == pytest.approx(expected.tolist())
            assert after["label"] == row["label"] == max(after["probabilities"], key=after["probabilities"].get)
    several = {"labels": ["a"], "probabilities": {"a": 0.9, "b": 0.2}}
    after = OfLabels().rescaled(several, 2.0)["probabilities"]
    assert after["a"] == pytest.approx(1 / (1 + math.exp(-math.log(9) / 2)))
    assert after["b"] < 0.5 < after["a"]


def test_probabilities_rounded_to_0_and_1_stay_finite():
    assert np.isfinite(class_logits(np.array([[0.0, 1.0]]))).all()
    assert np.isfinite(label_logits(np.array([[0.0, 1.0]]))).all()


def test_cross_fitting_never_judges_a_record_by_its_own_temperature():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (50, 3))
    targets = np.array([rng.choice(3, p=row / row.sum()) for row in np.exp(logits)])
    found = cross_fitted(logits, targets, 5, 0)
    changed = targets.copy()
    changed[7] = (targets[7] + 1) % 3
    other = cross_fitted(logits, changed, 5, 0)
    assert found[7] == other[7]
    assert (found != other).sum() == 40  # those whose folds the record helps to fit
    # what fitted in the sample is at least as good as what did not
    assert class_loss(logits / fitted_temperature(logits, targets), targets) <= class_loss(
        logits / found[:, None], targets
    )


def test_the_quantile_is_the_exact_order_statistic():
    scores = [0.4, 0.1, 0.3, 0.2]  # n = 4: ceil(5 x level)
    assert conformal_quantile(scores, 0.8) == 0.4
    assert conformal_quantile(scores, 0.6) == 0.3
    assert conformal_quantile(scores, 0.61) == 0.4
    assert math.isinf(conformal_quantile(scores, 0.81))
    assert math.isinf(conformal_quantile([], 0.5))
    assert conformal_rank(19, 0.95) == 19  # 20 x 0.95 in floats is a little more than 19
    assert not math.isinf(conformal_quantile([0.0] * 19, 0.95))
    assert math.isinf(conformal_quantile([0.0] * 18, 0.95))
    assert not math.isinf(conformal_quantile([0.0] * 99, 0.99))


def assert_exact_coverage(conformity, draw, num, level, splits=1500):
    """Each split calibrates on `num` records and tries one new one: covered ~ Bernoulli(rank / (n + 1))."""
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(splits):
        rows, labels = draw(rng, num + 1)
        quantile = conformal_quantile(conformity.scores(rows[:-1], labels[:-1]).tolist(), level)
        covered += conformity.covers(conformity.with_set(rows[-1], quantile), labels[-1])
    truth = conformal_rank(num, level) / (num + 1)
    assert truth >= level
    assert stats.binomtest(covered, splits, truth).pvalue > 1e-3, (covered / splits, truth)


@pytest.mark.parametrize(("num", "level"), [(30, 0.9), (9, 0.9), (24, 0.75)])
def test_coverage_of_classes_by_simulation(num, level):
    def draw(rng, n):  # probabilities that are wrong on purpose: the promise does not rest on them
        p = rng.dirichlet([0.6] * 3, n)
        labels = [("abc")[rng.choice(3, p=0.5 * row + 0.5 / 3)] for row in p]
        return predicted(p), labels

    assert_exact_coverage(OfClass(), draw, num, level)


def test_coverage_of_several_labels_by_simulation():
    def draw(rng, n):
        p = rng.random((n, 3))
        labels = [[name for name, v in zip("abc", row, strict=True) if rng.random() < v] for row in p]
        return [{"labels": [], "probabilities": dict(zip("abc", row, strict=True))} for row in p.tolist()], labels

    rng, covered = np.random.default_rng(5), 0
    for _ in range(1000):
        rows, labels = draw(rng, 31)
        quantile = conformal_quantile(OfLabels().scores(rows[:-1], labels[:-1]).tolist(), 0.8)
        covered += OfLabels().covers(OfLabels().with_set(rows[-1], quantile), labels[-1])
    # what is neither possible nor ruled out is called doubtful, so coverage may be above the level, never below
    assert stats.binomtest(covered, 1000, 0.8, alternative="less").pvalue > 1e-3


@pytest.mark.parametrize(("num", "level"), [(30, 0.9), (19, 0.95)])
def test_coverage_of_numbers_by_simulation(num, level):
    def draw(rng, n):
        x = rng.normal(size=n)
        return [{"value": v} for v in x.tolist()], (x + rng.standard_t(2, n)).tolist()

    assert_exact_coverage(OfValue(), draw, num, level)


def test_sets_of_classes():
    row = predicted([0.7, 0.25, 0.05])[0]
    sure, unsure, none = (OfClass().with_set(row, q) for q in (0.3 + 1e-9, 0.75, 0.1))
    assert (sure["label"], sure["set"], sure["abstained"]) == ("a", ["a"], False)
    assert (unsure["label"], unsure["set"], unsure["abstained"]) == (None, ["a", "b"], True)
    assert (none["label"], none["set"], none["abstained"]) == (None, [], True)
    assert OfClass().with_set(row, math.inf)["set"] == ["a", "b", "c"]
    with pytest.raises(DataError, match='Label "z" is none of the run'):
        OfClass().scores([row], ["z"])


def test_sets_of_several_labels_and_of_numbers():
    row = {"labels": ["a"], "probabilities": {"a": 0.95, "b": 0.6, "c": 0.02}}
    found = OfLabels().with_set(row, 0.45)
    assert (found["sure"], found["set"]) == (["a", "b"], ["a", "b"])
    found = OfLabels().with_set(row, 0.7)
    assert (found["sure"], found["set"], found["labels"], found["abstained"]) == (["a"], ["a", "b"], None, True)
    assert OfLabels().covers(found, ["a"])
    assert OfLabels().covers(found, ["a", "b"])
    assert not OfLabels().covers(found, ["b"])
    assert not OfLabels().covers(found, ["a", "c"])
    everything = OfLabels().with_set(row, math.inf)
    assert (everything["sure"], everything["set"]) == ([], ["a", "b", "c"])
    assert OfValue().with_set({"value": 2.0}, 0.5) == {"value": 2.0, "low": 1.5, "high": 2.5}
    assert OfValue().with_set({"value": 2.0}, math.inf) == {"value": 2.0, "low": None, "high": None}


def test_risk_and_abstention_by_hand():
    rows = predicted([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.6, 0.4]], "ab")
    curve = risk_curve(np.array([0.9, 0.8, 0.8, 0.6]), np.array([True, False, True, False]))
    assert curve == [
        {"kept": 0.25, "risk": 0.0},
        {"kept": 0.75, "risk": pytest.approx(1 / 3)},
        {"kept": 1.0, "risk": 0.5},
    ]
    found = abstention(OfClass(), rows, ["a", "b", "a", "b"], level=0.5, quantile=0.6 + 1e-9)
    assert found.abstained.value == 0.25  # the last: both labels are possible
    assert found.answered.value == pytest.approx(2 / 3)
    assert found.everything.value == 0.5
    assert found.coverage.value == 0.75
    assert found.size == 1.25


def test_exact_interval_of_a_share():
    # Clopper & Pearson: 0 of 10 gives 1 - 0.025^(1/10)
    found = exact_share(0, 10)
    assert (found.low, found.high) == (0.0, pytest.approx(1 - 0.025**0.1))
    assert math.isnan(exact_share(0, 0).value)
