"""The evaluation loop: order, modes, buckets; intervals, confusion matrix and calibration by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

import planted
from pretune.errors import DataError
from pretune.evaluation import buckets, calibration, confusion, evaluate, judge, predictions
from pretune.intervals import percentile_interval, resampled_indices
from pretune.modalities.protein import Protein
from pretune.resampling import metric_intervals
from pretune.tasks.classification import Classification
from pretune.tasks.regression import Regression
from pretune.tasks.tagging import Tagging


@pytest.fixture(scope="module")
def task():
    return planted.classifier()


@pytest.fixture(scope="module")
def rows():
    return planted.reviews(150, seed=7)


def test_predictions_keep_order_and_equal_one_by_one(task, rows):
    examples = list(task.process(rows))
    together = predictions(task, examples, batch_size=16)
    alone = [predictions(task, [e])[0] for e in examples]
    for a, b in zip(together, alone, strict=True):
        assert a["label"] == b["label"]
        assert a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-5)


def test_predictions_give_every_module_its_mode_back(task, rows):
    task.train()
    task.model.base_model.eval()
    predictions(task, task.process(rows[:4]))
    assert task.model.training
    assert not task.model.base_model.training
    task.eval()


def test_no_examples_are_no_predictions(task):
    assert predictions(task, []) == []


def test_buckets_hold_everything_once_within_the_budget():
    lengths = np.random.default_rng(0).integers(1, 900, 500).tolist()
    found = list(buckets(lengths, 8))
    assert sorted(i for b in found for i in b) == list(range(500))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 8 * 64 for b in found)
    assert all(len(b) <= 8 for b in found)


def test_long_records_are_padded_little():
    lengths = np.random.default_rng(0).integers(70, 220, 400).tolist()
    found = list(buckets(lengths, 64))
    padded = sum(len(b) * max(lengths[i] for i in b) for b in found)
    assert padded < 1.06 * sum(lengths)
    assert min(len(b) * max(lengths[i] for i in b) for b in found[:-1]) > 1000, "and batches are not tiny"
    assert [len(b) for b in buckets([40, 2, 1], 64)] == [3], "short ones are cheap to pad"


def test_evaluate_is_json_and_renders(task, rows, tmp_path):
    found = evaluate(task, task.process(rows), [r["label"] for r in rows])
    assert found.metrics["accuracy"] > 0.95
    assert found.intervals["accuracy"].n == 1000
    again = json.loads(json.dumps(found.to_dict()))
    assert again["confusion"]["labels"] == ["bad", "good"]
    assert sum(map(sum, again["confusion"]["counts"])) == 150
    console = Console(record=True, width=100)
    console.print(found.render())
    text = console.export_text()
    assert "accuracy" in text
    assert "1,000 resamples" in text
    picture = found.confusion.plot(tmp_path / "sub" / "confusion.png")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert [p.name for p in picture.parent.iterdir()] == ["confusion.png"]


def test_confusion_by_hand():
    guess = [{"label": x} for x in ["a", "b", "b", "c"]]
    found = confusion(guess, ["a", "a", "b", "d"], ["a", "b", "c"])
    assert found.labels == ["a", "b", "c", "d"]
    assert found.counts == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]


def test_calibration_by_hand():
    def said(p, label="x"):
        return {"label": label, "probabilities": {label: p, "y": 1 - p}}

    # bins of 1/15: 0.95 and 0.97 share the last, 0.70 is in (0.667, 0.733]
    found = calibration([said(0.95), said(0.97), said(0.70), said(0.70)], ["x", "y", "x", "x"])
    assert found.ece == pytest.approx(0.5 * abs(0.96 - 0.5) + 0.5 * abs(0.70 - 1.0))
    assert [b["count"] for b in found.bins] == [2, 2]
    assert calibration([said(1.0)], ["x"]).ece == 0


def test_mismatched_labels_are_an_error(task):
    with pytest.raises(DataError, match="found 1 and 2"):
        judge(task, [{}, {}], ["a"])


def _classified(rng, n):
    names = ["a", "b", "c"]
    truth = rng.choice(names, n).tolist()
    guess = [t if rng.random() < 0.7 else str(rng.choice(names)) for t in truth]
    return Classification(), [{"label": g, "probabilities": {}} for g in guess], truth


def _measured(rng, n):
    truth = rng.normal(size=n)
    guess = truth + rng.normal(scale=0.7, size=n)
    return Regression(), [{"value": float(v)} for v in guess], truth.tolist()


def _tagged(rng, n):
    task = Tagging()
    task.labels = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    pieces = [["O"], ["O"], ["B-X"], ["B-Y", "I-Y"]]
    truth = [[tag for k in rng.integers(4, size=6) for tag in pieces[k]] for _ in range(n)]
    # an I- that follows nothing is no entity, which only strict IOB2 knows
    guess = [[t if rng.random() < 0.85 else str(rng.choice(task.labels[:3])) for t in row] for row in truth]
    return task, [{"tags": row, "spans": []} for row in guess], truth


def _spoken(rng, n):
    task = Tagging()
    task.labels = ["ADJ", "NOUN", "VERB"]
    truth = [rng.choice(task.labels, int(rng.integers(3, 9))).tolist() for _ in range(n)]
    guess = [[t if rng.random() < 0.8 else str(rng.choice(task.labels)) for t in row] for row in truth]
    return task, [{"tags": row, "spans": []} for row in guess], truth


def _lettered(rng, n):
    task = Tagging()
    task.check(Protein())
    task.learn_labels([list("HEC")])
    truth = ["".join(rng.choice(list("HEC"), int(rng.integers(4, 12)))) for _ in range(n)]
    guess = ["".join(t if rng.random() < 0.8 else str(rng.choice(list("HEC"))) for t in row) for row in truth]
    return task, [{"tags": row} for row in guess], [list(row) for row in truth]


@pytest.mark.parametrize("kind", [_classified, _lettered, _measured, _spoken, _tagged])
def test_fast_intervals_equal_plain_resampling(kind):
    task, guess, truth = kind(np.random.default_rng(3), 120)
    metrics = task.metrics(guess, truth)
    fast = metric_intervals(task, guess, truth, metrics, level=0.95, resamples=1000, seed=1)
    drawn = [
        task.metrics([guess[i] for i in row], [truth[i] for i in row])
        for block in resampled_indices(120, 300, seed=2)
        for row in block
    ]
    for name, value in metrics.items():
        plain = percentile_interval(value, [d[name] for d in drawn])
        assert fast[name].value == value
        assert fast[name].n == (300 if name == "spearman" else 1000)
        width = plain.high - plain.low
        assert fast[name].low == pytest.approx(plain.low, abs=0.3 * width)
        assert fast[name].high == pytest.approx(plain.high, abs=0.3 * width)


def test_a_metric_that_the_formula_does_not_reproduce_is_resampled_plainly():
    class Odd(Classification):
        def metrics(self, predictions, labels):
            return {"accuracy": 0.25}

    guess, truth = [{"label": "a", "probabilities": {}}] * 5, ["a"] * 5
    found = metric_intervals(Odd(), guess, truth, {"accuracy": 0.25}, level=0.95, resamples=60, seed=0)
    assert (found["accuracy"].low, found["accuracy"].high, found["accuracy"].n) == (0.25, 0.25, 60)
