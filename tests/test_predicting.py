"""A run that was written: loaded, in order, row for row, and equal to the pipelines of transformers."""

from __future__ import annotations

import itertools
import json

import pandas as pd
import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import planted
import planted_models
from pretune import evaluation
from pretune.errors import ConfigError, ModelError, RunError
from pretune.predicting import load
from pretune.tasks.classification import Classification


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return planted.written(planted.classifier(), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def predictor(run):
    return load(run)


@pytest.fixture(scope="module")
def minilm_run(minilm, tmp_path_factory):
    """The real MiniLM with a head of random but strong weights, so that labels differ."""
    run = tmp_path_factory.mktemp("minilm")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=3)
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    model.config.id2label = {0: "x", 1: "y", 2: "z"}
    model.config.problem_type = "single_label_classification"
    model.save_pretrained(run / "model")
    AutoTokenizer.from_pretrained(minilm).save_pretrained(run / "model")
    (run / "recipe.yaml").write_text(yaml.safe_dump({"task": "classification", "modality": "text"}))
    return run


def texts(num):
    return [row["text"] for row in planted.reviews(num, seed=11)]


def test_equals_the_text_classification_pipeline(minilm_run):
    inputs = [*texts(40), "Das ist ein längerer Satz, mit Umlauten & Zeichen!", "x"]
    model = minilm_run / "model"
    theirs = pipeline("text-classification", model=str(model), top_k=None, batch_size=8)(inputs)
    ours = load(minilm_run, precision="fp32").predict(inputs)
    assert len({p["label"] for p in ours}) > 1
    for a, b in zip(ours, theirs, strict=True):
        assert a["label"] == b[0]["label"]
        assert a["probabilities"] == pytest.approx({r["label"]: r["score"] for r in b}, abs=1e-5)


def test_equals_the_pipeline_on_pairs(minilm_run):
    pairs = list(itertools.pairwise(texts(12)))
    pipe = pipeline("text-classification", model=str(minilm_run / "model"), top_k=None)
    ours = load(minilm_run, precision="fp32").predict([{"text": a, "text_pair": b} for a, b in pairs])
    for found, (a, b) in zip(ours, pairs, strict=True):
        theirs = {r["label"]: r["score"] for r in pipe({"text": a, "text_pair": b})}
        assert found["probabilities"] == pytest.approx(theirs, abs=1e-5)


def test_bf16_gives_the_same_labels(minilm_run, monkeypatch):
    inputs = [" ".join(pair) for pair in itertools.pairwise(texts(400))]
    exact = load(minilm_run, precision="fp32").predict(inputs)
    again: list[int] = []
    rounded = evaluation._rounded
    monkeypatch.setattr(evaluation, "_rounded", lambda *a: again.extend(rounded(*a)) or again)
    fast = load(minilm_run, precision="bf16").predict(inputs)
    assert 0 < len(again) < len(inputs) / 2  # those near a tie are computed again, not most
    assert [p["label"] for p in fast] == [p["label"] for p in exact]
    for i, (a, b) in enumerate(zip(fast, exact, strict=True)):
        assert a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-5 if i in again else 0.02)


def test_where_bf16_decides_nothing_all_is_exact(predictor, monkeypatch):
    inputs = texts(300)
    exact = predictor.predict(inputs)
    monkeypatch.setattr(predictor, "precision", "bf16")
    monkeypatch.setattr(type(predictor.task), "lead", lambda task, logits: torch.zeros(len(logits)))
    assert [p["label"] for p in predictor.predict(inputs)] == [p["label"] for p in exact]
    for a, b in zip(predictor.predict(inputs), exact, strict=True):
        assert a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-5)


NUMBERS = {
    "value": lambda: planted_models.text("regression", False),
    "boxes": lambda: planted_models.image("detection", False),
    "masks": lambda: planted_models.image("segmentation", False),
    "transcript": lambda: planted_models.sound("ctc", False),
    "contacts": lambda: planted_models.sequence("contacts", False, True),
    "structure": lambda: planted_models.sequence("structure", False, True),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_what_has_no_leads_is_rounded_where_that_is_asked_for(what, monkeypatch):
    predictor, record, _, _ = NUMBERS[what]()
    forward, rounded = predictor.task.forward, []

    def watched(batch):
        rounded.append(torch.is_autocast_enabled("cpu"))
        return forward(batch)

    monkeypatch.setattr(predictor.task, "forward", watched)
    for precision in ("fp32", "bf16"):
        monkeypatch.setattr(predictor, "precision", precision)
        rounded.clear()
        (found,) = predictor.predict([record])
        assert "error" not in found
        assert rounded == [precision == "bf16"]


def test_a_lead_can_move_by_no_more_than_is_said():
    """Any change of logits: the answer stays where the lead is larger than what `moved` says."""
    torch.manual_seed(0)
    for labels in ({}, {"multi_label": True}):
        task = Classification(**labels)
        exact = torch.randn(2000, 4)
        rough = exact + 0.2 * torch.randn(2000, 4) + torch.randn(2000, 1) * (not labels)
        changed = (rough > 0).ne(exact > 0).any(1) if labels else rough.argmax(1) != exact.argmax(1)
        assert changed.sum() > 100
        assert (task.lead(rough)[changed] <= task.moved(rough, exact)[changed]).all()


def test_equals_the_token_classification_pipeline(tmp_path):
    run = planted.written(planted.tagger(), tmp_path)
    inputs = [" ".join(row["tokens"]).replace("[MASK]", "the") for row in planted.sentences(20, seed=5)]
    pipe = pipeline("token-classification", model=str(run / "model"), aggregation_strategy="first")
    found = load(run).predict([{"text": t} for t in inputs])
    assert any(p["spans"] for p in found)
    for text, ours, theirs in zip(inputs, found, pipe(inputs), strict=True):
        mine = [(s["label"], s["start_char"], s["end_char"]) for s in ours["spans"]]
        assert mine == [(e["entity_group"], e["start"], e["end"]) for e in theirs], text


def test_chunks_keep_order_and_stream(predictor):
    inputs = texts(53)
    whole = predictor.predict(inputs)
    found = list(predictor.stream(inputs, chunk=7, batch_size=4))
    assert [p["label"] for p in found] == [p["label"] for p in whole]
    wanted = ["good" if "superb" in t else "bad" for t in inputs]
    assert sum(p["label"] == w for p, w in zip(found, wanted, strict=True)) > 50


def test_a_bad_row_is_an_error_at_its_place(predictor, tmp_path):
    rows = [json.dumps({"text": t}).encode() for t in texts(5)]
    rows[1] = b'{"text": "broken'
    rows[2] = b'{"text": "\xff\xfe"}'
    rows[3] = b'{"text": 7}'
    rows.append(b'{"text": "\\ud800 alone"}')
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"\n".join(rows) + b"\n")
    found = predictor.predict(str(file))
    assert len(found) == 6
    assert ["error" in p for p in found] == [False, True, True, True, False, True]
    assert [p["row"] for p in found if "error" in p] == [2, 3, 4, 6]
    assert all("in.jsonl" in p["error"] for p in found if "error" in p)
    good = predictor.predict([texts(5)[0], texts(5)[4]])
    assert [found[0]["label"], found[4]["label"]] == [p["label"] for p in good]


def test_reads_tables_and_named_columns(predictor, tmp_path):
    frame = pd.DataFrame({"id": [1, 2], "review": texts(2), "label": ["?", "?"]})
    frame.to_csv(tmp_path / "in.csv", index=False)
    wanted = predictor.predict(texts(2))
    assert predictor.predict(frame) == wanted
    assert predictor.predict(tmp_path / "in.csv") == wanted
    frame = frame.rename(columns={"review": "wording"})
    assert predictor.predict(frame, columns={"text": "wording"}) == wanted


def test_stream_reads_no_further_than_a_chunk(predictor, tmp_path):
    file = tmp_path / "long.txt"
    file.write_text("\n".join(texts(50)) + "\n")
    stream = predictor.stream(str(file), chunk=5)
    assert "label" in next(stream)
    assert len(list(stream)) == 49


def test_what_is_no_run_says_so(tmp_path, run):
    with pytest.raises(RunError, match="does not exist"):
        load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"no recipe\.yaml"):
        load(tmp_path / "empty")
    (tmp_path / "recipe.yaml").write_text("objective: mlm\n")
    with pytest.raises(RunError, match="names no task"):
        load(tmp_path)
    (tmp_path / "recipe.yaml").write_text("task: classification\nmodality: text\n")
    with pytest.raises(RunError, match="no finished model"):
        load(tmp_path)
    (tmp_path / "recipe.yaml").write_text("task: clasification\n")
    with pytest.raises(ConfigError, match='Did you mean "classification"'):
        load(tmp_path)


@pytest.mark.parametrize("damage", ["missing", "truncated", "headless"])
def test_weights_that_are_missing_or_damaged_say_so(tmp_path, damage):
    run = planted.written(planted.trained_nothing(), tmp_path)
    file = run / "model" / "model.safetensors"
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        from safetensors.torch import load_file, save_file

        kept = {k: v for k, v in load_file(file).items() if not k.startswith("classifier")}
        save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(ModelError) as caught:
        load(run)
    assert "\n" not in str(caught.value)
