"""`pretune inspect` from the shell, on real runs as small as they can be, and what it says to wrong inputs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

import planted
import pretune
import shell
from pretune.checkpoint import RunDirectory
from pretune.errors import PretuneError

TEXT = {"name": "text", "vocab_size": 256}
SHORT = {"budget": "8steps", "batch_size": 8}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspected")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PRETUNE_CACHE", str(folder / "cache"))
        made()
    return folder


def made() -> None:
    pd.DataFrame(planted.reviews(60)).to_csv("labels.csv", index=False)
    pd.DataFrame(planted.reviews(40, seed=1)).to_csv("test.csv", index=False)
    pd.DataFrame({"text": [r["text"] for r in planted.reviews(60)], "label": range(60)}).to_csv("n.csv", index=False)
    Path("tags.jsonl").write_text("\n".join(json.dumps(r) for r in planted.sentences(40)))
    Path("corpus.txt").write_text("".join(f"{r['text']}.\n" for r in planted.reviews(200)))
    pretune.pretrain("corpus.txt", out="pre", size="tiny", modality=TEXT, **SHORT)
    pretune.pretrain("corpus.txt", out="other", size="mini", modality=TEXT, **SHORT)
    for strategy in ("full", "freeze", "lora"):
        pretune.finetune("labels.csv", out=strategy, from_="pre", strategy=strategy, valid="test.csv", **SHORT)
    pretune.finetune("tags.jsonl", out="tagger", from_="pre", task="tagging", **SHORT)
    pretune.finetune("n.csv", out="control", from_="pre", scratch=True, task="regression", **SHORT)


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")


def run(words: str, capsys: pytest.CaptureFixture[str], status: int = 0) -> tuple[str, str]:
    return shell.run(f"inspect {words}", capsys, status)


def test_a_fine_tuned_run_is_looked_into_with_its_own_data(capsys, tmp_path):
    before = load_file("full/model/model.safetensors")
    out, _ = run(f"full --against freeze --out {tmp_path}/seen", capsys)
    found = json.loads((tmp_path / "seen" / "inspection.json").read_text())
    assert list(found["probes"]["curves"]) == ["random", "pre-trained", "fine-tuned"]
    assert list(found["probes"]["gains"]) == ["pre-trained over random", "fine-tuned over pre-trained"]
    assert found["data"]["held"] == {"source": "test.csv", "num_records": 40}
    assert found["layers"] == ["embeddings", "block 1", "block 2"]
    full, freeze = found["compared"]
    assert full["start"] == "pre"
    assert full["drift"]["layers"]["block 1"] > 0
    assert set(freeze["drift"]["layers"].values()) == {0.0}
    assert [freeze["cka"][k][k] for k in range(3)] == pytest.approx([1, 1, 1])
    assert "No weight of the encoder of freeze differs from pre." in found["sentences"]
    assert [b["layer"] for b in found["usefulness"]["blocks"]] == ["block 1", "block 2"]
    assert found["usefulness"]["blocks"][0]["reset"].keys() == {"random", "pre-trained"}
    assert "slightly too good" in out
    pictures = {p.name for p in (tmp_path / "seen" / "inspection").iterdir()}
    assert pictures == {"probes.png", "cka.png", "drift.png", "usefulness.png"}
    after = load_file("full/model/model.safetensors")
    assert all((before[n] == after[n]).all() for n in before)


def test_merged_lora_moves_linear_layers_and_nothing_else(capsys, tmp_path):
    run(f"lora --num_records 30 --out {tmp_path}", capsys)
    drift = json.loads((tmp_path / "inspection.json").read_text())["compared"][0]["drift"]
    assert drift["layers"]["embeddings"] == 0
    assert drift["layers"]["block 1"] > 0
    assert set(drift["types"]["mlp_norm"].values()) == {0.0}


def test_a_pre_trained_run_needs_labels_for_probes(capsys, tmp_path):
    out, _ = run(f"pre --out {tmp_path}/a", capsys)
    assert "Without labels there is nothing for probes to read" in out
    found = json.loads((tmp_path / "a" / "inspection.json").read_text())
    assert found["probes"] is None
    assert found["usefulness"] is None
    moved = found["compared"][0]["drift"]["layers"]
    assert moved["embeddings"] < moved["block 1"]  # word vectors from counts stay as they are
    out, _ = run(f"pre --data labels.csv --test test.csv --out {tmp_path}/b", capsys)
    assert "learnt from 60 records, scored on 40 others" in out
    out, _ = run(f"pre --data labels.csv --num_records 50 --out {tmp_path}/c", capsys)
    assert "5-fold cross-validation over 50 records" in out
    out, _ = run(f"pre --data n.csv --task regression --out {tmp_path}/d", capsys)
    assert "linear probes: r2" in out
    out, _ = run(f"pre --data tags.jsonl --task tagging --out {tmp_path}/e", capsys)
    assert "linear probes: macro_f1" in out


def test_tags_and_a_run_from_scratch(capsys, tmp_path):
    run(f"tagger --out {tmp_path}/t", capsys)
    assert json.loads((tmp_path / "t" / "inspection.json").read_text())["usefulness"]["metric"] == "f1"
    run(f"control --out {tmp_path}/c", capsys)
    found = json.loads((tmp_path / "c" / "inspection.json").read_text())
    assert list(found["probes"]["curves"]) == ["random", "fine-tuned"]
    assert found["compared"][0]["start"] == "its random start (seed 0)"
    assert found["compared"][0]["drift"]["layers"]["block 1"] < 0.5


def test_what_cannot_be_compared_with_is_said(capsys, tmp_path):
    shutil.copytree("full", tmp_path / "orphan")
    file = tmp_path / "orphan" / "lineage.json"
    facts = json.loads(file.read_text())
    facts["parent"]["finished"] = "2001-01-01T00:00:00+00:00"
    file.write_text(json.dumps(facts))
    out, _ = run(f"{tmp_path}/orphan --data test.csv", capsys)
    assert "trained anew since" in out
    facts["parent"] = {"source": "gone"}
    facts["data"]["train"] = "other"
    file.write_text(json.dumps(facts))
    out, _ = run(f"{tmp_path}/orphan --overwrite", capsys)
    assert 'It started from "gone", which cannot be compared with' in out
    assert "train data (labels.csv) is not there any more, or has changed" in out
    assert {p.name for p in (tmp_path / "orphan").iterdir()} >= {"inspection.json"}


def test_a_frozen_run_is_drawn_too(capsys, tmp_path):
    run(f"freeze --num_records 30 --out {tmp_path}", capsys)
    assert (tmp_path / "inspection" / "drift.png").stat().st_size > 1000


def test_training_data_is_named_as_such(capsys, tmp_path):
    out, _ = run(f"full --data labels.csv --out {tmp_path}", capsys)
    assert '"labels.csv" is what full was fine-tuned on' in out


def test_an_inspection_goes_with_the_run(tmp_path):
    shutil.copytree("full", tmp_path / "run")
    (tmp_path / "run" / "inspection").mkdir()
    (tmp_path / "run" / "inspection.json").write_text("{}")
    (tmp_path / "run" / "mine.txt").write_text("kept")
    RunDirectory(tmp_path / "run").open({"verb": "finetune"}, overwrite=True)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"mine.txt", "checkpoints", "recipe.yaml"}


WRONG = {
    "ful": 'does not exist.*Did you mean "full"',
    "cache": "has no recipe.yaml; give a run directory",
    "full --task classification --data test.csv": "is fine-tuned and knows its task",
    "pre --test test.csv": "give the labels with --data too",
    "pre --task tagging": "give the labels with --data too",
    "pre --data labels.csv --task detection": '"detection" works on pixels',
    "pre --data none.csv": "none.csv",
    "pre --data labels.csv --label_column stars": "stars",
    "full --against other": 'is of another architecture than "full"',
    "full --num_records 0": "num_records must be",
    "pre --data labels.csv --num_records 10": "A probe needs at least 20 records",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_input_gives_one_sentence_and_leaves_nothing(words, capsys, tmp_path):
    _, err = run(f"{words} --out {tmp_path}/new", capsys, status=2)
    assert len(err.strip().splitlines()) == 1
    assert re.search(WRONG[words], err), err
    assert not (tmp_path / "new").exists()


def test_an_inspection_is_not_replaced_silently(capsys, tmp_path):
    (tmp_path / "inspection.json").write_text("{}")
    _, err = run(f"full --out {tmp_path}", capsys, status=2)
    assert "is there already; give --overwrite" in err
    (tmp_path / "recipe.yaml").write_text("verb: finetune")
    with pytest.raises(PretuneError, match="not finished"):
        pretune.inspect(str(tmp_path))


def test_test_data_alone_is_enough_for_a_run_whose_own_data_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run("full --test test.csv --out alone", capsys)
    assert "scored on 40 others" in out
