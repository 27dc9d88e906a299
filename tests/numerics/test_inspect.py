"""Drift by hand, probes of a planted layer, blocks that do nothing, and weights that come back bit for bit."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

import planted
from pretune import encoder, evaluation
from pretune.drift import cosine, drift, layer_names
from pretune.errors import DataError, ModelError
from pretune.evaluation import predictions
from pretune.inspected_data import _answers
from pretune.intervals import Interval
from pretune.layer_states import layer_states, places_of
from pretune.probes import Answers, Prober, best, sort_of_labels
from pretune.resampling import scored
from pretune.tasks.classification import Classification
from pretune.tasks.regression import Regression
from pretune.tasks.tagging import Tagging
from pretune.usefulness import skipping, usefulness
from pretune.weight_swap import encoder_weights, fitting, holding


@pytest.fixture(scope="module")
def task():
    return planted.trained(Classification(), planted.reviews(64), "label", 10)


@pytest.fixture(scope="module")
def rows():
    return planted.reviews(60, seed=5)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


# -- drift -------------------------------------------------------------------------------------------------------------


def test_drift_is_the_distance_over_the_length_at_the_start(task):
    start = encoder_weights(task.model)
    now = copy.deepcopy(start)
    for name in now:
        if ".layer.0." in name:
            now[name] *= 1.25
    now["encoder.layer.1.output.dense.weight"] += 0.5
    found = drift(task.model, start, now)
    assert layer_names(task.model) == ["embeddings", "block 1", "block 2"]
    assert found.layers["block 1"] == pytest.approx(0.25)
    assert found.layers["embeddings"] == 0.0
    block = [p.double() for n, p in start.items() if n.startswith("encoder.layer.1.")]
    length = sum(float((p**2).sum()) for p in block)
    number = start["encoder.layer.1.output.dense.weight"].numel()
    assert found.layers["block 2"] == pytest.approx((0.25 * number / length) ** 0.5)
    assert found.types["attention.self.query"] == pytest.approx({"block 1": 0.25, "block 2": 0.0})
    assert found.new == []


def test_what_started_from_zero_or_was_not_there_has_no_relative_distance(task):
    start = encoder_weights(task.model)
    zero = {n: torch.zeros_like(w) for n, w in start.items()}
    assert set(drift(task.model, zero, start).layers.values()) == {None}
    assert set(drift(task.model, zero, zero).layers.values()) == {0.0}
    missing = {n: w for n, w in start.items() if "pooler" not in n}
    assert drift(task.model, missing, start).new == ["pooler.dense.weight", "pooler.dense.bias"]


def test_unrelated_weights_have_a_cosine_near_zero(task):
    own = encoder_weights(task.model)
    assert cosine(own, {n: 3 * w for n, w in own.items()}) == pytest.approx(1)
    other = {n: torch.randn(w.shape, generator=torch.Generator().manual_seed(1)) for n, w in own.items() if w.ndim > 1}
    assert abs(cosine(own, other)) < 0.05


# -- other weights for a while -----------------------------------------------------------------------------------------


def test_weights_come_back_bit_for_bit_also_after_an_error(task):
    before = encoder_weights(task.model)
    other = {n: w + 1 for n, w in before.items()}
    with holding(task.model, other):
        assert equal(encoder_weights(task.model), other)
    assert equal(encoder_weights(task.model), before)
    with pytest.raises(ZeroDivisionError), holding(task.model, other):
        1 / 0  # noqa: B018
    assert equal(encoder_weights(task.model), before)
    with pytest.raises(KeyError), holding(task.model, {"nothing": torch.zeros(1)}):
        pass
    assert equal(encoder_weights(task.model), before)


def test_only_weights_of_the_same_name_and_shape_fit(task):
    own = encoder_weights(task.model)
    name = "encoder.layer.0.output.dense.bias"
    assert fitting(own | {name: torch.zeros(3), "odd": torch.zeros(1)}, task.model).keys() == own.keys() - {name}


# -- probes ------------------------------------------------------------------------------------------------------------


class Writes(nn.Module):
    """A block that adds a direction where exactly one of two words is in the text: linear models cannot read that."""

    def __init__(self, vectors, direction):
        super().__init__()
        self.vectors, self.direction = nn.Parameter(vectors), nn.Parameter(direction)

    def forward(self, hidden, *_, **__):
        there = (torch.cdist(hidden, self.vectors.expand(len(hidden), -1, -1)) < 1e-3).any(1)
        odd = there[:, 0] ^ there[:, 1]
        return hidden + odd[:, None, None] * self.direction


class Nothing(nn.Module):
    def forward(self, hidden, *_, **__):
        return hidden


@pytest.fixture(scope="module")
def planted_task():
    """Block 1 does nothing, block 2 writes whether exactly one of "oslo" and "anna" is there."""
    made = planted.trained(Classification(), planted.reviews(32), "label", 0)
    base = made.model.bert
    base.embeddings.position_embeddings.weight.data.zero_()
    found = encoder.blocks(made.model)[1]
    ids = [made.modality.hf.convert_tokens_to_ids(w) for w in ("oslo", "anna")]
    with torch.no_grad():
        vectors = base.embeddings.eval()(torch.tensor([ids]))[0]
    found[0], found[1] = Nothing(), Writes(vectors.clone(), torch.randn(32))
    return made


def odd_ones(number, seed=0):
    rng = random.Random(seed)
    records = []
    for _ in range(number):
        words = rng.choices(planted.FILLER, k=6)
        both = rng.random() < 0.5, rng.random() < 0.5
        words += [w for w, there in zip(("oslo", "anna"), both, strict=True) if there]
        rng.shuffle(words)
        records.append({"text": " ".join(words), "label": "odd" if both[0] != both[1] else "even"})
    return records


def probed(made, records, **more):
    examples = [e | {"labels": int(r["label"] == "odd")} for e, r in zip(made.process(records), records, strict=True)]
    answers = Answers("class", np.array([e["labels"] for e in examples]), np.arange(len(examples)), **more)
    return examples, answers


def test_the_planted_layer_is_found(planted_task):
    examples, answers = probed(planted_task, odd_ones(200))
    states = layer_states(planted_task.model, planted_task.modality, planted_task.collate, examples)
    prober = Prober(answers, None, seed=0)
    curve = [prober.read(layer) for layer in states]
    assert best(curve) == 2
    assert curve[2].score.value > 0.99
    assert max(c.score.high for c in curve[:2]) < 0.75
    assert np.array_equal(states[0], states[1])
    assert curve[0].above(curve[1]) == Interval(0.0, 0.0, 0.0, 0.95, "bootstrap", 1000)
    assert curve[2].above(curve[1]).low > 0.2
    commonest = max(answers.values.mean(), 1 - answers.values.mean())
    assert prober.baseline().score.value == pytest.approx(commonest, abs=0.06)


def test_probes_can_be_scored_on_other_records(planted_task):
    learn, answers = probed(planted_task, odd_ones(150))
    held, asked = probed(planted_task, odd_ones(60, seed=9))
    states = [
        layer_states(planted_task.model, planted_task.modality, planted_task.collate, part) for part in (learn, held)
    ]
    found = Prober(answers, asked, seed=0).read(states[0][2], states[1][2])
    assert found.score.value == 1.0


def test_groups_are_never_on_both_sides(planted_task):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    labels = rng.permutation(np.repeat([0, 1], 10))[groups]
    states = np.eye(20, dtype=np.float32)[groups] + 0.01 * rng.standard_normal((100, 20)).astype(np.float32)
    mixed = Prober(Answers("class", labels, np.arange(100)), None, seed=0).read(states)
    apart = Prober(Answers("class", labels, np.arange(100), groups), None, seed=0).read(states)
    assert mixed.score.value > 0.95
    assert apart.score.value < 0.6


def test_each_sort_of_answer_has_its_score():
    rng = np.random.default_rng(0)
    states = rng.standard_normal((120, 5)).astype(np.float32)
    rows = np.arange(120)
    value = Prober(Answers("value", states[:, 0] * 3.0 + 1, rows, metric="r2"), None, seed=0)
    assert value.read(states).score.value > 0.99
    assert value.baseline().score.value == pytest.approx(0, abs=0.05)
    several = (states[:, :3] > 0.3).astype(int)
    found = Prober(Answers("classes", several, rows, metric="micro_f1"), None, seed=0)
    assert found.read(states).score.value > 0.8 > found.baseline().score.value
    tags = Answers("tag", (states[:, 0] > 1).astype(int), rows // 4, metric="macro_f1")
    entities = Prober(tags, None, seed=0)
    assert entities.read(states).score.value > entities.baseline().score.value
    assert tags.num_records == 30


def test_macro_f1_is_that_of_scikit_learn():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(1)
    states, y = rng.standard_normal((90, 4)).astype(np.float32), rng.integers(0, 3, 90)
    test = rng.integers(0, 3, 90)
    learn, asked = (Answers("tag", v, np.arange(90), metric="macro_f1") for v in (y, test))
    found = Prober(learn, asked, seed=0).read(states, states)
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    guess = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 5, 13))).fit(states, y).predict(states)
    assert found.score.value == pytest.approx(f1_score(test, guess, average="macro"))


def test_few_records_are_refused():
    with pytest.raises(DataError, match="at least 20 records to learn from, found 5"):
        Prober(Answers("class", np.arange(5), np.arange(5)), None, seed=0)


def test_labels_say_whether_a_probe_can_read_them(task):
    assert sort_of_labels([task.labelled({"input_ids": [1]}, "good")]) == "class"
    assert sort_of_labels([{"labels": 0.5}]) == "value"
    assert sort_of_labels([{"labels": [0.0, 1.0]}]) == "classes"
    assert sort_of_labels([{"labels": {"boxes": []}}]) is None
    assert sort_of_labels([{"labels": [3, 4, 1]}]) is None  # characters of a transcript


# -- states of words ---------------------------------------------------------------------------------------------------


def test_states_of_words_are_those_at_their_first_token():
    made = planted.trained(Tagging(), planted.sentences(24), "tags", 0)
    records = planted.sentences(12, seed=3)
    examples = [made.labelled(e, r["tags"]) for e, r in zip(made.process(records), records, strict=True)]
    places = places_of(examples, 36, seed=0)
    assert [len(p) for p in places] == [3] * 12
    states = layer_states(made.model, made.modality, made.collate, examples, places)
    answers = _answers(made, examples, None, places)
    assert states[0].shape == (36, 32)
    assert answers is not None
    assert answers.metric == "macro_f1"
    with torch.inference_mode():
        alone = made.model(**made.modality.pad([{"input_ids": examples[7]["input_ids"]}]), output_hidden_states=True)
    at = [examples[7]["word_index"].index(int(w)) for w in places[7]]
    assert states[2][21:24] == pytest.approx(alone.hidden_states[2][0, at].numpy(), abs=1e-5)
    assert answers.values[21:24].tolist() == [examples[7]["labels"][w] for w in places[7]]
    assert answers.record_of[21:24].tolist() == [7, 7, 7]


# -- what a block is worth ---------------------------------------------------------------------------------------------


def test_skipping_a_block_that_does_nothing_changes_nothing(planted_task):
    records = odd_ones(40)
    examples = planted_task.process(records)
    labels = [random.Random(i).choice(planted_task.labels) for i in range(40)]
    whole = predictions(planted_task, examples)
    found = encoder.blocks(planted_task.model)[1]
    with skipping(found[0]):
        assert predictions(planted_task, examples) == whole
    with skipping(found[1]):
        assert predictions(planted_task, examples) != whole
    useful = usefulness(planted_task, examples, labels, ["block 1", "block 2"], {}, seed=0)
    first = useful.blocks[0].skipped
    assert first is not None
    assert (first.value, first.low, first.high) == (0, 0, 0)


def test_skipping_is_the_model_without_the_block(task, rows):
    without = copy.deepcopy(task)
    without.model.bert.encoder.layer = nn.ModuleList([task.model.bert.encoder.layer[1]])
    examples = task.process(rows)
    with skipping(task.model.bert.encoder.layer[0]):
        found = predictions(task, examples)
    expected = predictions(without, examples)
    values = [[p["probabilities"]["good"] for p in side] for side in (found, expected)]
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_a_block_reset_to_itself_costs_nothing_and_weights_come_back(task, rows, monkeypatch):
    examples, labels = task.process(rows), [r["label"] for r in rows]
    own = encoder_weights(task.model)
    torch.manual_seed(3)
    noise = {n: torch.randn_like(w) for n, w in own.items()}
    found = usefulness(task, examples, labels, ["block 1", "block 2"], {"same": own, "noise": noise}, seed=0)
    assert [b.reset["same"].value for b in found.blocks] == [0, 0]
    assert found.score == task.metrics(predictions(task, examples), labels)["accuracy"]
    assert equal(encoder_weights(task.model), own)
    monkeypatch.setattr(evaluation, "buckets", None)  # fails inside
    with pytest.raises(TypeError):
        usefulness(task, examples, labels, ["block 1", "block 2"], {"noise": noise}, seed=0)
    assert equal(encoder_weights(task.model), own)


def test_a_fall_is_paired(task, rows):
    examples, labels = task.process(rows), [r["label"] for r in rows]
    whole = predictions(task, examples)
    wrong = copy.deepcopy(whole)
    for prediction in wrong[:30]:
        prediction["label"] = "good" if prediction["label"] == "bad" else "bad"
    one, other = (scored(task, p, labels, "accuracy") for p in (whole, wrong))
    found = one.less(other)
    expected = np.mean([float(p["label"] == y) for p, y in zip(whole, labels, strict=True)]) - np.mean(
        [float(p["label"] == y) for p, y in zip(wrong, labels, strict=True)]
    )
    assert found.value == pytest.approx(expected)
    assert one.less(one).high == 0


def test_a_slow_metric_is_compared_record_by_record():
    made = Regression()
    rng = np.random.default_rng(0)
    labels = rng.standard_normal(80).tolist()
    good = [{"value": y + 0.1 * rng.standard_normal()} for y in labels]
    bad = [{"value": float(rng.standard_normal())} for _ in labels]
    # which has no formula of sums
    one, other = (scored(made, p, labels, "spearman", resamples=50) for p in (good, bad))
    found = one.less(other)
    expected = made.metrics(good, labels)["spearman"] - made.metrics(bad, labels)["spearman"]
    assert found.value == pytest.approx(expected)
    assert 0.5 < found.low < expected < found.high


def test_an_encoder_without_blocks_has_no_layers_to_look_at(task):
    bare = copy.deepcopy(task.model)
    bare.bert.encoder.layer = nn.ModuleList([])
    with pytest.raises(ModelError, match="no list of blocks"):
        layer_states(bare, task.modality, task.collate, task.process(planted.reviews(4)))
