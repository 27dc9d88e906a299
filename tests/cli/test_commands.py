"""What commands print and where: data on standard output, messages on standard error, no row lost or moved."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import yaml

import planted
import pretune
from pretune.checkpoint import RunDirectory
from pretune.errors import RunError
from pretune.tasks.tagging import Tagging
from shell import run

SHORT = "--budget 2steps --batch_size 4"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    planted.written(planted.trained_nothing(), folder / "ft")
    planted.written(planted.trained(Tagging(), planted.sentences(40), "tags", 0), folder / "tagger")
    rows = planted.reviews(40)
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    pd.DataFrame(planted.reviews(20, seed=1)).to_csv(folder / "test.csv", index=False)
    (folder / "corpus.txt").write_text("".join(f"{r['text']}.\n" for r in planted.reviews(300)))
    return folder


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def rows(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


# -- predict: every row in its place ------------------------------------------------------------------------------

LINES = [
    '{"text": "the superb film"}',
    '{"text": ""}',
    "not json",
    '{"text": "the dreadful film"}',
    '{"title": null, "text": 3}',
    "[1, 2]",
    '{"text": "the superb film"}',
]


def assert_in_place(found: list[dict[str, object]], place: str) -> None:
    assert ["error" in row for row in found] == [False, True, True, False, True, True, False]
    assert found[0] == found[6]
    assert f"{place}, line 3: not valid JSON" in str(found[2]["error"])
    assert [r["row"] for r in found if "error" in r] == [2, 3, 5, 6]


def test_bad_rows_of_jsonl_keep_their_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.jsonl").write_text("\n".join(LINES))
    out, err = run(f"predict ft {tmp_path}/new.jsonl", capsys)
    assert_in_place(rows(out), f"{tmp_path}/new.jsonl")
    assert '4 of 7 rows could not be used; their lines have "error".' in err


def test_bad_rows_of_standard_input_keep_their_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = "\n".join(LINES).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert_in_place(rows(run("predict ft -", capsys)[0]), "stdin")


def test_lines_of_text_on_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raw = b"the superb film\n\n" + "schön\n".encode("latin-1") + b"the superb film\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    found = rows(run("predict ft -", capsys)[0])
    assert ["error" in row for row in found] == [False, True, True, False]
    assert found[0] == found[3]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert run("predict ft -", capsys) == ("", "standard input is empty\n")


def test_every_line_of_standard_input_is_scored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        json.dumps({"title": "T", "sentence": r["text"], "label": r["label"]}) for r in planted.reviews(20, seed=1)
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    run(f"evaluate ft - --out {tmp_path}/scores", capsys)
    assert json.loads((tmp_path / "scores/evaluation.json").read_text())["num_records"] == 20


def test_bad_rows_of_csv_keep_their_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [b"text,id", b"the film,1", b"the, film,2", b"caf\xe9,3", b'"",4', b"the film,5", b'the "film,6']
    (tmp_path / "new.csv").write_bytes(b"\n".join(lines))
    found = rows(run(f"predict ft {tmp_path}/new.csv", capsys)[0])
    assert ["error" in row for row in found] == [False, True, True, True, False, False]
    assert "expected 2 fields as in the header, found 3" in str(found[1]["error"])
    assert "UTF-8" in str(found[2]["error"])


def test_words_and_texts_for_tagging(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.jsonl").write_text('{"tokens": ["anna", "sang"]}\n{"tokens": []}\n{"text": "anna sang"}\n{}\n')
    found = rows(run(f"predict tagger {tmp_path}/new.jsonl", capsys)[0])
    assert ["error" in row for row in found] == [False, True, False, True]
    assert found[0]["tags"] == found[2]["tags"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "deep" / "p.jsonl"
    assert run(f"predict ft test.csv --out {target}", capsys)[0] == ""
    before = target.read_text()
    assert len(rows(before)) == 20
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    run(f"predict ft {tmp_path}/bad.csv --out {target}", capsys, status=2)
    assert target.read_text() == before
    assert [f.name for f in target.parent.iterdir()] == ["p.jsonl"]


def test_what_is_cut_is_counted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = [{"text": "film " * (200 if k < 3 else 2), "label": k % 2} for k in range(20)]
    pd.DataFrame(long).to_csv(tmp_path / "long.csv", index=False)
    cut = "3 of 20 records are longer than max_length 64 and were cut"
    assert cut in run(f"predict ft {tmp_path}/long.csv", capsys)[1]
    assert cut in run(f"finetune --from ft --data {tmp_path}/long.csv --out {tmp_path}/run {SHORT}", capsys)[1]
    assert cut in run(f"evaluate {tmp_path}/run {tmp_path}/long.csv", capsys)[1]
    (tmp_path / "long.jsonl").write_text(json.dumps({"text": "film " * 200}))
    assert "were cut" not in run(f"predict tagger {tmp_path}/long.jsonl", capsys)[1]


# -- the other verbs ----------------------------------------------------------------------------------------------


def test_results_are_json_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--data corpus.txt --out {tmp_path}/pre --size tiny --modality.vocab_size 256"
    out, err = run(f"pretrain {words} {SHORT}", capsys)
    assert rows(out)[0]["run"] == f"{tmp_path}/pre"
    assert "forecast" in err
    words = f"--from {tmp_path}/pre --data labels.csv --test test.csv --out {tmp_path}/ft"
    out, err = run(f"finetune {words} {SHORT}", capsys)
    assert "test_accuracy" in rows(out)[0]
    out, err = run(f"evaluate {tmp_path}/ft test.csv --out {tmp_path}/scores", capsys)
    assert "accuracy" in out
    assert "wrote" in err
    assert json.loads((tmp_path / "scores/evaluation.json").read_text())["num_records"] == 20
    seen = "was trained on these records"
    assert seen not in err
    assert seen in run(f"evaluate {tmp_path}/ft labels.csv", capsys)[1]
    out, _ = run(f"explain {tmp_path}/ft 'the superb film' --num_random 0 --out {tmp_path}/why.json", capsys)
    assert "superb" in out
    assert json.loads((tmp_path / "why.json").read_text())[0]["words"] == ["the", "superb", "film"]


def test_what_is_written_to_stays_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to("target.jsonl")
    (tmp_path / "target.jsonl.tmp").write_text("mine")
    run(f"predict ft test.csv --out {tmp_path}/link", capsys)
    assert (tmp_path / "link").is_symlink()
    assert len((tmp_path / "target.jsonl").read_text().splitlines()) == 20
    assert sorted(f.name for f in tmp_path.iterdir()) == ["link", "target.jsonl", "target.jsonl.tmp"]
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        run(f"predict ft test.csv --out {tmp_path}/pipe", capsys)
        assert read.result() == (tmp_path / "target.jsonl").read_text()
    assert (tmp_path / "pipe").is_fifo()


def test_a_run_remembers_the_columns_that_were_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [{"title": f"T{k % 3}", "body": r["text"], "kind": r["label"]} for k, r in enumerate(planted.reviews(60))]
    pd.DataFrame(found).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame(found[1:] + found[:1]).to_csv(tmp_path / "b.csv", index=False)
    named = "--text_column body --label_column kind"
    run(f"finetune --from ft --data {tmp_path}/a.csv {named} --out {tmp_path}/run {SHORT}", capsys)
    for verb, options in (("predict", "--text_column body"), ("evaluate", named)):
        plain = run(f"{verb} {tmp_path}/run {tmp_path}/b.csv", capsys)[0]
        assert plain == run(f"{verb} {tmp_path}/run {tmp_path}/b.csv {options}", capsys)[0]
    title, said = run(f"predict {tmp_path}/run {tmp_path}/b.csv --text_column title", capsys)
    assert "is read from" not in said
    remembered, said = run(f"predict {tmp_path}/run {tmp_path}/b.csv", capsys)
    assert "is read from" not in said
    assert title != remembered
    (tmp_path / "pair.jsonl").write_text('{"sentence1": "a film", "sentence2": "a book"}')
    said = run(f"predict {tmp_path}/run {tmp_path}/pair.jsonl", capsys)[1]
    assert 'the text is read from "sentence1" and not from "sentence2"' in said
    (tmp_path / "other.txt").write_text("the superb film\n")
    assert "label" in rows(run(f"predict {tmp_path}/run {tmp_path}/other.txt", capsys)[0])[0]


def test_a_label_that_is_held_out_alone_is_a_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = [{"text": f"film {k}", "label": "a;b" if k % 2 else "a"} for k in range(20)]
    rare = [{"text": f"film r{k}", "label": f"a;rare{k}"} for k in range(8)]
    pd.DataFrame(many + rare).to_csv(tmp_path / "a.csv", index=False)
    for seed in range(2):
        options = f"--task.multi_label true --valid_rate 0.5 --seed {seed} --out {tmp_path}/run{seed} {SHORT}"
        run(f"finetune --from ft --data {tmp_path}/a.csv {options}", capsys)
        config = json.loads((tmp_path / f"run{seed}/model/config.json").read_text())
        assert list(config["id2label"].values()) == ["a", "b", *(f"rare{k}" for k in range(8))]


def test_a_recipe_repeats_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--from ft --data labels.csv --strategy l2sp+layer_decay --strategy.alpha 0.1 {SHORT}"
    run(f"finetune {words} --out {tmp_path}/a", capsys)
    recipe = yaml.safe_load((tmp_path / "a/recipe.yaml").read_text())
    assert recipe["strategy"] == {"name": "l2sp+layer_decay", "alpha": 0.1, "beta": 0.01, "decay": 0.9}
    run(f"finetune --config {tmp_path}/a/recipe.yaml --out {tmp_path}/b", capsys)
    first, second = ((tmp_path / f"{k}/model/model.safetensors").read_bytes() for k in "ab")
    assert first == second
    run(f"pretrain --data corpus.txt --out {tmp_path}/p --size tiny --modality.vocab_size 256 {SHORT}", capsys)
    run(f"pretrain --config {tmp_path}/p/recipe.yaml --out {tmp_path}/q", capsys)


def test_each_part_of_a_strategy_keeps_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run("finetune --strategy l2sp+lora --print_config", capsys)
    assert "alpha" not in yaml.safe_load(out)["strategy"]
    out, _ = run("finetune --strategy l2sp+lora --strategy.alpha 3 --print_config", capsys)
    assert yaml.safe_load(out)["strategy"]["alpha"] == 3


def test_the_last_choice_counts(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run("pretrain --objective mlm --objective electra --print_config", capsys)
    assert yaml.safe_load(out)["objective"]["name"] == "electra"


@pytest.mark.parametrize("given", ["--scratch", "--scratch true", "--scratch=true"])
def test_switches(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert yaml.safe_load(run(f"finetune {given} --data 2024 --print_config", capsys)[0])["scratch"] is True
    assert yaml.safe_load(run("finetune --scratch false --print_config", capsys)[0])["scratch"] is False
    assert yaml.safe_load(run(f"finetune {given} --data 2024 --print_config", capsys)[0])["data"] == "2024"


def test_help_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("pretrain", "finetune", "evaluate", "predict", "explain", "explain-all", "check", "demo", "list"):
        out, err = run(f"{verb} --help", capsys)
        assert verb in out
        assert err == ""
        assert "null" not in out
    assert "--ROLE_column COLUMN" in run("finetune --help", capsys)[0]
    assert "mask_rate" in run("pretrain --objective.help mlm", capsys)[0]
    assert "NAME" in run("list --help", capsys)[0]


def test_help_is_fast_and_without_torch() -> None:
    code = "import sys, pretune.cli; pretune.cli.main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("the film\n" * 5000)
    words = f"{sys.executable} -m pretune predict ft {tmp_path}/many.txt | head -1"
    done = subprocess.run(words, shell=True, capture_output=True, text=True, check=False)
    assert len(rows(done.stdout)) == 1
    assert done.stderr == ""


def test_a_model_of_pairs_wants_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [{"sentence1": r["text"], "sentence2": "the film", "label": r["label"]} for r in planted.reviews(20)]
    pd.DataFrame(pairs).to_csv(tmp_path / "pairs.csv", index=False)
    run(f"finetune --from ft --data {tmp_path}/pairs.csv --out {tmp_path}/run {SHORT}", capsys)
    assert len(rows(run(f"predict {tmp_path}/run {tmp_path}/pairs.csv", capsys)[0])) == 20
    assert 'no column for "text_pair"' in run(f"predict {tmp_path}/run test.csv", capsys, status=2)[1]
    assert 'no column for "text_pair"' in run(f"evaluate {tmp_path}/run test.csv", capsys, status=2)[1]
    words = f"finetune --from ft --data {tmp_path}/pairs.csv --test test.csv --out {tmp_path}/other {SHORT}"
    assert 'no column for "text_pair"' in run(words, capsys, status=2)[1]


def test_a_model_of_single_texts_reads_single_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(f"finetune --from ft --data labels.csv --out {tmp_path}/run {SHORT}", capsys)
    first = pd.DataFrame([{"sentence1": "the film", "sentence2": "the superb plot"}])
    first.to_csv(tmp_path / "pairs.csv", index=False)
    first[["sentence1"]].to_csv(tmp_path / "single.csv", index=False)
    found = [run(f"predict {tmp_path}/run {tmp_path}/{k}.csv", capsys)[0] for k in ("pairs", "single")]
    assert found[0] == found[1]


# -- run directories ----------------------------------------------------------------------------------------------


def test_a_failed_start_leaves_no_tokenizer_behind(tmp_path: Path) -> None:
    run_folder = RunDirectory(tmp_path / "run")
    run_folder.open({"verb": "pretrain", "vocab": 1})
    (run_folder.path / "modality").mkdir()
    run_folder.open({"verb": "pretrain", "vocab": 2})
    assert not (run_folder.path / "modality").exists()


def test_an_interrupted_run_goes_on_also_with_overwrite(tmp_path: Path) -> None:
    run_folder = RunDirectory(tmp_path / "run")
    run_folder.open({"verb": "pretrain"}, data={"train": "1"})
    (run_folder.path / "modality").mkdir()
    run_folder.open({"verb": "pretrain"}, data={"train": "1"}, overwrite=True)
    assert (run_folder.path / "modality").exists()


def test_changed_data_is_not_gone_on_with(tmp_path: Path) -> None:
    from pretune.checkpoint import State

    run_folder = RunDirectory(tmp_path / "run")
    run_folder.open({"verb": "pretrain"}, data={"train": "1"})
    run_folder.save(State({}), 1)
    with pytest.raises(RunError, match="the train data has other content"):
        run_folder.open({"verb": "pretrain"}, data={"train": "2"})


def test_overwrite_removes_what_is_the_runs_own(tmp_path: Path) -> None:
    run_folder = RunDirectory(tmp_path / "run")
    run_folder.open({"verb": "pretrain"})
    (run_folder.path / "lineage.json").write_text("{}")
    (run_folder.path / "notes.txt").write_text("mine")
    run_folder.open({"verb": "pretrain"}, overwrite=True)
    assert (run_folder.path / "notes.txt").read_text() == "mine"
    assert not run_folder.finished


def test_interrupted_repetitions_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pretune import finetuning

    options = {"from_": "ft", "out": str(tmp_path / "run"), "budget": "2steps", "seeds": 2}
    whole = finetuning._once
    monkeypatch.setattr(finetuning, "_once", lambda **o: whole(**o) if o["seed"] == 0 else _interrupt())
    with pytest.raises(KeyboardInterrupt):
        pretune.finetune("labels.csv", **options)
    monkeypatch.setattr(finetuning, "_once", whole)
    before = (tmp_path / "run/lineage.json").stat().st_mtime_ns
    found = pretune.finetune("labels.csv", **options)
    assert (tmp_path / "run/lineage.json").stat().st_mtime_ns == before
    assert "accuracy_low" in found.metrics
    with pytest.raises(RunError, match="finished run"):
        pretune.finetune("labels.csv", **options)


def _interrupt() -> None:
    raise KeyboardInterrupt
