"""Whatever is wrong with a command: one sentence that helps, exit status 2, nothing on stdout, nothing written."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from transformers import GPT2Config, GPT2Model

import planted
from pretune.cli import main
from pretune.tasks.regression import Regression
from pretune.tasks.tagging import Tagging

PRETRAIN = "pretrain --data corpus.txt --out new --size tiny --modality.vocab_size 256 --budget 2steps"
FINETUNE = "finetune --from ft --data labels.csv --out new --budget 2steps"


def table(rows: list[dict[str, object]], file: str) -> None:
    pd.DataFrame(rows).to_csv(file, index=False)


def write_data() -> None:
    rows = planted.reviews(40)
    Path("corpus.txt").write_text("".join(f"{r['text']}.\n" for r in planted.reviews(300)))
    table(rows, "labels.csv")
    table(planted.reviews(20, seed=1), "test.csv")
    table([{"text": "a film", "label": "superb"}], "unknown.csv")
    table([r | {"label": "good"} for r in rows], "one_class.csv")
    table([rows[0], rows[1] | {"label": None}, *rows[2:]], "nan.csv")
    table([r | {"stars": k % 5} for k, r in enumerate(rows)], "scores.csv")
    table([{"a": 1, "b": 2}], "columns.csv")
    Path("header.csv").write_text("text,label\n")
    Path("empty.csv").write_text("")
    Path("empty.txt").write_text("\n \n\n")
    Path("latin.csv").write_bytes("text,label\nein Film,good\nein schöner Film,bad\n".encode("latin-1"))
    Path("latin.txt").write_bytes("ein Film\nein schöner Film\n".encode("latin-1"))
    Path("binary.csv").write_bytes(bytes(range(256)) * 20)
    Path("picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Path("broken.txt.gz").write_bytes(gzip.compress(b"a film\n" * 99)[:-9])
    Path("uneven.jsonl").write_text('{"tokens": ["a", "b"], "tags": ["O"]}\n')
    Path("ragged.conll").write_text("anna B-PER\nsang\n\n")
    Path("tags.conll").write_text("anna B-PER\nsang O\n\nin O\noslo B-LOC\n\n" * 20)
    Path("other_tags.conll").write_text("anna B-ORG\nsang O\n\n")
    Path("hot.jsonl").write_text('{"text": "a film", "label": [1, 0, 1]}\n' * 8)
    Path("printed.csv").write_text("text,label\n" + "a film,\"['a', 'b']\"\n" * 8)
    Path("half.csv").write_text("sentence1,sentence2,label\n" + "a,b,good\na,,bad\n" * 8)
    for name in ("pos/0.txt", "neg/0.txt", "readme.txt"):
        Path("classes", name).parent.mkdir(parents=True, exist_ok=True)
        Path("classes", name).write_text("a film\n")
    Path("no.yaml").write_text("a: [1\n")
    Path("text.yaml").write_text("just words\n")
    Path("key.yaml").write_text("batch_siz: 3\n")
    Path("inner.yaml").write_text("objective: {name: mlm, mask_rat: 0.3}\n")
    Path("slot.yaml").write_text("objective: 3\n")
    Path("kind.yaml").write_text("batch_size: many\n")
    Path("verb.yaml").write_text("verb: finetune\n")
    Path("folder").mkdir()
    Path("file").write_text("not a folder")
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("my own")


def write_models() -> None:
    planted.written(planted.trained_nothing(), Path("ft"))
    planted.written(planted.trained(Tagging(), planted.sentences(40), "tags", 0), Path("tagger"))
    scored = [{"text": r["text"], "label": float(k)} for k, r in enumerate(planted.reviews(40))]
    planted.written(planted.trained(Regression(), scored, "label", 0), Path("scorer"))
    for name in ("weightless", "pickled", "damaged", "partial"):
        shutil.copytree("ft", name)
    Path("weightless/model/model.safetensors").unlink()
    Path("pickled/model/model.safetensors").unlink()
    torch.save({}, "pickled/model/pytorch_model.bin")
    weights = Path("damaged/model/model.safetensors").read_bytes()
    Path("damaged/model/model.safetensors").write_bytes(weights[:1000])
    shutil.copytree("ft/model", "gpt")
    GPT2Model(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=512)).save_pretrained("gpt")
    config = json.loads(Path("partial/model/config.json").read_text()) | {"num_hidden_layers": 4}
    Path("partial/model/config.json").write_text(json.dumps(config))
    Path("unfinished/checkpoints").mkdir(parents=True)
    recipe = {"verb": "finetune", "task": "classification", "modality": "text"}
    Path("unfinished/recipe.yaml").write_text(yaml.safe_dump(recipe))
    shutil.copytree("ft", "finished")
    Path("finished/lineage.json").write_text("{}")
    Path("finished/recipe.yaml").write_text(yaml.safe_dump(recipe))
    Path("pre").mkdir()
    Path("pre/recipe.yaml").write_text(yaml.safe_dump({"verb": "pretrain", "objective": "mlm"}))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    before, folder = Path.cwd(), tmp_path_factory.mktemp("place")
    os.chdir(folder)
    write_data()
    write_models()
    os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def snapshot() -> dict[str, float]:
    return {str(f): f.stat().st_mtime_ns for f in Path().rglob("*")}


def refused(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which a command is refused; nothing else may have happened."""
    before = snapshot()
    status = main(shlex.split(words))
    out, err = capsys.readouterr()
    assert status == 2, err
    assert out == ""
    sentences = [line for line in err.splitlines() if line.startswith("pretune: ")]
    assert len(sentences) == 1, err
    assert err.rstrip().endswith(sentences[0])
    assert "Traceback" not in err
    assert snapshot() == before
    return sentences[0]


COMMAND_LINES = {
    "pretran --data corpus.txt": 'no verb "pretran".*Did you mean "pretrain"',
    "list mlmm": 'nothing called "mlmm".*Did you mean "mlm"',
    "list mlm bert": "one name",
    "demo numbers": 'no demo "numbers"; there are: text, digits, speech',
    "pretrain": "--data, --out must be given",
    "predict ft": "--data must be given",
    "predict ft test.csv more.csv": "no place for: more.csv",
    "finetune labels.csv": "no place for: labels.csv; did you mean --data labels.csv?",
    "finetune --data labels.csv more.csv": "no place for: more.csv.",
    "pretrain --objective.help": "--objective.help takes a name",
    "pretrain --objective.help nsp": 'nothing called "nsp"',
    f"{PRETRAIN} --batch_siz 3": "no option --batch_siz. Did you mean --batch_size",
    f"{PRETRAIN} --objectiv bert": "no option --objectiv. Did you mean --objective",
    f"{PRETRAIN} --objective.mask_rat 0.2": "Did you mean --objective.mask_rate",
    f"{PRETRAIN} --objective.discriminator_weight 9": "no option --objective.discriminator_weight. See `pretune pre",
    f"{PRETRAIN} --objective berd": 'no objective "berd"; there are: .*Did you mean "bert"',
    f"{PRETRAIN} --size tni": 'no size "tni"; there are: tiny.*Did you mean "tiny"',
    f"{PRETRAIN} --family brt": 'no family "brt".*Did you mean "bert"',
    f"{PRETRAIN} --init randm": 'no init "randm".*Did you mean "random"',
    f"{PRETRAIN} --modality txt": 'no modality "txt".*Did you mean "text"',
    f"{PRETRAIN} --optimizer adam": 'no optimizer "adam"; there are: adamw, muon',
    f"{PRETRAIN} --schedule liner": 'no schedule "liner"; there are: .*linear',
    f"{PRETRAIN} --precision fp16": 'precision is "bf16" or "fp32"; found "fp16"',
    f"{PRETRAIN} --tracker tensorbord": 'no tracker "tensorbord".*Did you mean "tensorboard"',
    f"{PRETRAIN} --batch_size abc": "--batch_size: expected a whole number, found abc",
    f"{PRETRAIN} --batch_size 2.5": "--batch_size: expected a whole number, found 2.5",
    f"{PRETRAIN} --lr high": "--lr: expected a number, found high",
    f"{PRETRAIN} --overwrite perhaps": "no place for: perhaps",
    f"{PRETRAIN} --modality.lowercase=maybe": "--modality.lowercase: expected true or false, found maybe",
    f"{PRETRAIN} --lr": "--lr needs a value",
    f"{FINETUNE} --strategy choose --strategy.among full,l2ps": 'no strategy "l2ps".*Did you mean "l2sp"',
    f"{FINETUNE} --task clasification": 'no task "clasification".*Did you mean "classification"',
    f"{FINETUNE} --strategy l2sp+frez": 'no strategy "frez".*Did you mean "freeze"',
    f"{FINETUNE} --strategy l2sp+l2sp": 'names strategy "l2sp" twice',
    f"{FINETUNE} --strategy l2sp --strategy.alpa 1": "Did you mean --strategy.alpha",
    f"{FINETUNE} --task.class_weights balance": "class_weights.*balance",
    "explain ft film --explainer atention": 'no explainer "atention".*Did you mean "attention"',
    "predict ft test.csv --precision fp8": 'precision is "bf16" or "fp32"; found "fp8"',
    "check labels.csv --task clasification": 'no task "clasification"',
}

NUMBERS = {
    **{f"{PRETRAIN} --batch_size {n}": "batch_size must be a whole number, at least 1" for n in (0, -4)},
    **{f"{PRETRAIN} --lr {n}": f"lr must be a number, above 0; found {n}" for n in ("-1.0", "0.0")},
    **{f"{PRETRAIN} --lr {n}": f"lr: expected a number, found {n}" for n in ("nan", "inf")},
    f"{PRETRAIN} --seed -1": "seed must be a whole number, at least 0",
    f"{PRETRAIN} --seed 4294967296": "seed must be .* at most 4294967295",
    f"{PRETRAIN} --num_micro_batches 0": "num_micro_batches must be",
    f"{PRETRAIN} --num_validations 0": "num_validations must be",
    f"{PRETRAIN} --num_workers -1": "num_workers must be",
    f"{PRETRAIN} --warmup_rate 2": "warmup_rate must be a number, at least 0 and below 1",
    f"{PRETRAIN} --weight_decay -1": "weight_decay must be",
    f"{PRETRAIN} --max_grad_norm -1": "max_grad_norm must be",
    f"{PRETRAIN} --ema 2": "ema must be a number, at least 0 and below 1; found 2",
    f"{PRETRAIN} --modality.vocab_size 100": "vocab_size must be a multiple of 64, found 100; take 128",
    f"{PRETRAIN} --modality.max_length 3": "max_length must be at least 8",
    f"{PRETRAIN} --objective.mask_rate 5": "mask_rate must be from 0.01 to 1, and is 5",
    f"{PRETRAIN} --objective.span_length 0": "span_length must be from 1",
    f"{FINETUNE} --seeds 0": "seeds must be a whole number, at least 1; found 0",
    f"{FINETUNE} --valid_rate 2": "valid_rate must be a number, at least 0 and below 1",
    f"{FINETUNE} --valid_rate -0.1": "valid_rate must be",
    f"{FINETUNE} --patience -1": "patience must be",
    "finetune --from ft --data labels.csv --out new --min_steps 0": "min_steps must be",
    f"{FINETUNE} --task.label_smoothing 1.5": "label_smoothing must be",
    f"{FINETUNE} --strategy l2sp --strategy.alpha -1": "alpha must be positive",
    f"{FINETUNE} --strategy layer_decay --strategy.decay 1": "decay must be between 0 and 1",
    f"{FINETUNE} --strategy freeze --strategy.layers -1": "layers must be 0 or more",
    f"{FINETUNE} --strategy freeze --strategy.layers 9": "layers is 9, and the encoder has 2 blocks",
    f"{FINETUNE} --strategy lora --strategy.rank 0": "rank >= 1",
    f"{FINETUNE} --strategy wise --strategy.share 2": "share must be from 0",
    f"{FINETUNE} --strategy soup --strategy.members 0": "members >= 1.*found members=0",
    f"{FINETUNE} --strategy choose --strategy.folds 1": "folds >= 2.*found trials=30, folds=1",
    f"{FINETUNE} --strategy choose --strategy.time 3epochs": 'time is a time, such as 10m or 2h; found "3epochs"',
    f"{FINETUNE} --strategy choose --strategy.folds 50": "50 folds need at least 50 records, found 36",
    f"{FINETUNE} --modality.max_length 9999": "max_length is 9999, but .* reads at most 64",
    f"{FINETUNE} --num_micro_batches 99": "cannot be cut into 99",
    "predict ft test.csv --batch_size 0": "batch_size must be",
    "evaluate ft test.csv --seed -1": "seed must be",
    "explain ft film --num_random 1": "num_random must be 0",
    "explain ft film --num_random -2": "num_random must be",
    "explain ft film --sanity -1": "sanity must be",
    "explain-all ft test.csv --min_records 1": "min_records must be a whole number, at least 2",
    "explain-all ft test.csv --max_records 0": "max_records must be",
    "explain-all ft test.csv --out all.png": "--out ends with .html or .json",
    "explain-all ft revews.csv": "revews.csv",
    "explain ft film --explainer.n_steps 0": "n_steps",
    **{
        f"{PRETRAIN} --budget={b}": f'budget is a positive number and a unit .* found "{b}"'
        for b in ("20", "0s", "-5m", "3parsecs", "nan", "1e999tok")
    },
    f"{PRETRAIN} --checkpoint_every never": "positive number and a unit",
}

WITHOUT_EFFECT = {
    "pretrain --from ft --data corpus.txt --out new --size tiny": "--size tiny has no effect with --from ft",
    "pretrain --from ft --data corpus.txt --out new --modality.lowercase false": "lowercase False has no effect",
    "pretrain --from ft --data corpus.txt --out new --modality.vocab_size 512": "vocab_size 512 has no effect",
    "pretrain --from ft --data corpus.txt --out new --init random": "--init random has no effect",
    f"{PRETRAIN} --patience 3": "patience has no effect in pre-training",
    f"{PRETRAIN} --label_column label": "--label_column has no effect here; there are: --text_column",
    f"{PRETRAIN} --txt_column text": "--txt_column has no effect.*Did you mean",
    f"{PRETRAIN} --objective autoencoder --objective.mask_rate 0": "mlm_weight has no effect",
    f"{FINETUNE} --size tiny": "--size tiny has no effect with --from ft",
    f"{FINETUNE} --scratch --family bert": "--family bert has no effect with --from ft",
    f"{FINETUNE} --modality.lowercase false": "--modality.lowercase False has no effect with --from ft",
    f"{FINETUNE} --modality.boundary file": "boundary has no effect on labelled data",
    f"{FINETUNE} --min_steps 5": "min_steps is for a budget in epochs; with 2steps it has no effect",
    f"{FINETUNE} --valid test.csv --valid_rate 0.2": "valid_rate has no effect with --valid",
    f"{FINETUNE} --valid_rate 0 --patience 2": "patience has no effect without validation",
    f"{FINETUNE} --valid_rate 0 --num_validations 3": "num_validations has no effect without validation",
    f"{FINETUNE} --valid_rate 0 --strategy wise": "wise.*there is none; give --valid, .* or --strategy.share",
    f"{FINETUNE} --valid_rate 0 --strategy l2sp+soup": "soup.*there is none; give --valid",
    f"{FINETUNE} --strategy freeze+wise": 'wise" has no effect with "freeze"',
    f"{FINETUNE} --strategy choose+l2sp": "choose picks the strategy itself",
    f"{FINETUNE} --task.separator ,": "separator is for multi_label",
    f"{FINETUNE} --task.multi_label true --task.separator ''": "separator is what stands between .* is empty",
    f"{FINETUNE} --checkpoint_every 0": "checkpoint_every is a positive number",
    "finetune --from ft --data labels.csv --out new --budget 1e99s": 'budget is a positive .* found "1e99s"',
    "finetune --from ft --data labels.csv --out ft --overwrite": "ft is what is started from, and would be replaced",
    f"{FINETUNE} --text_column label --label_column label": 'one column "label" for --text_column and --label_column',
    "predict ft test.csv --out test.csv": '--out is "test.csv", which is what is read',
    f"{FINETUNE} --lable_column label": "--lable_column has no effect.*Did you mean",
    "finetune --scratch --data labels.csv --out new --strategy l2sp --size tiny --budget 2steps": "starts from scratch",
    "finetune --data labels.csv --out new": "give --from, or --scratch",
    "predict ft test.csv --label_column label": "--label_column has no effect here",
    "check corpus.txt --test test.csv": "name its --task",
    "check labels.csv --task classification --boundary file": "--boundary is for a corpus",
    "check corpus.txt --label_column label": "no effect without --task",
    "pretrain --data labels.csv --out new --size tiny --modality.boundary file": "--boundary",
    "explain scorer film --of good": "nothing to choose",
}

DATA = {
    "pretrain --data corpsu.txt --out new": 'no file or folder "corpsu.txt".*Did you mean "corpus.txt"',
    "pretrain --data folder --out new": '"folder" holds no file at all',
    "pretrain --data picture.png --out new": 'Cannot read "picture.png": expected a file that ends in .txt',
    "pretrain --data empty.txt --out new": '"empty.txt" has no text',
    "pretrain --data empty.csv --out new": '"empty.csv" is empty',
    "pretrain --data latin.txt --out new": "latin.txt, line 2: expected UTF-8 text, found the byte 0xf6.*iconv",
    "pretrain --data broken.txt.gz --out new": '"broken.txt.gz" is damaged or not gzip',
    "pretrain --data columns.csv --out new": 'no column for "text".*its columns are a, b; name .*--text_column',
    "pretrain --data - --out new": '"-" cannot be read twice',
    "pretrain --data 2024 --out new": '"2024"',
    f"{PRETRAIN} --valid missing.txt": 'no file or folder "missing.txt"',
    f"{PRETRAIN} --valid corpus.txt": "--valid holds the same as --data; give other records, or leave it out",
    f"{PRETRAIN} --text_column review": 'no column "review"',
    "finetune --from ft --data lables.csv --out new": 'no file or folder "lables.csv".*Did you mean "labels.csv"',
    "finetune --from ft --data empty.csv --out new": '"empty.csv" is empty',
    "finetune --from ft --data header.csv --out new": '"header.csv" has no rows',
    "finetune --from ft --data columns.csv --out new": 'no column for "text"',
    "finetune --from ft --data corpus.txt --out new": "plain text file holds text only",
    "finetune --from ft --data one_class.csv --out new": 'at least two classes, found only "good" in 40 records',
    "finetune --from ft --data nan.csv --out new": r"nan.csv, line 3: the label \(column \"label\"\) is empty",
    "finetune --from ft --data latin.csv --out new": "latin.csv, line 3: expected UTF-8",
    "finetune --from ft --data binary.csv --out new": '"binary.csv" is no text file',
    "finetune --from ft --data labels.csv --task regression --out new": "needs a number as its label, found 'good'",
    "finetune --from ft --data labels.csv --task tagging --out new": 'no column for "tokens"',
    "finetune --from ft --data uneven.jsonl --task tagging --out new": "uneven.jsonl, line 1: .*2 tokens and 1 tags",
    "finetune --from ft --data ragged.conll --task tagging --out new": "ragged.conll, line 2: expected 2 columns",
    "finetune --from ft --data hot.jsonl --task.multi_label true --out new": 'row 1, has the label "1" twice',
    "finetune --from ft --data printed.csv --task.multi_label true --out new": "row 2, has a printed list",
    "finetune --from ft --data hot.jsonl --out new": "several labels .*that needs --task.multi_label true",
    "finetune --from ft --data half.csv --out new": "half.csv, row 3: the text_pair is empty",
    "finetune --from ft --data classes --out new": 'classes/readme.txt" lies beside the folders of the classes',
    "explain ft film --of 2": 'no label "2"',
    f"{FINETUNE} --valid labels.csv": "--valid holds the same as --data",
    f"{FINETUNE} --valid test.csv --test test.csv": "--test holds the same as --valid",
    f"{FINETUNE} --test missing.csv": 'no file or folder "missing.csv"',
    f"{FINETUNE} --test unknown.csv": 'unknown.csv, .* 2: Label "superb" does not occur in the training data',
    f"{FINETUNE} --valid unknown.csv": 'Label "superb" does not occur',
    f"{FINETUNE} --label_column lable": 'no column "lable" for --label_column.*Did you mean "label"',
    f"{FINETUNE} --group_column author": 'no column "author"',
    "study --from ft --data labels.csv --test labels.csv --out new": "--test holds the same as --data",
    "evaluate ft missing.csv": 'no file or folder "missing.csv"',
    "evaluate ft unknown.csv": 'Label "superb" does not occur',
    "evaluate ft nan.csv": "nan.csv, line 3",
    "evaluate ft header.csv": "no rows",
    "evaluate ft columns.csv": 'no column for "text"',
    "evaluate tagger other_tags.conll": 'other_tags.conll, .* Tag "B-ORG" does not occur in the training data',
    "evaluate scorer labels.csv": "needs a number as its label",
    "predict ft missing.csv": 'no file or folder "missing.csv"',
    "predict ft 'a text of several words'": 'no file or folder "a text of several words"',
    f"predict ft '{'word ' * 99}'": "no file or folder",
    "predict ft ''": "name of the data is empty",
    "predict ft columns.csv": 'no column for "text"',
    "predict ft header.csv": "no rows",
    "explain ft ''": "no text to explain",
    "explain ft '  '": "no text to explain",
    "explain ft revews.csv": 'no file "revews.csv"',
    "explain ft columns.csv": 'no column for "text"',
    "explain ft film --of great": 'no label "great"; there are: bad, good',
    "explain tagger 'anna sang' --of 7": "no entity '7'",
    "explain ft film --out why.pdf": "--out ends with .html, .json or .png",
    "check missing.csv --task classification": 'no file or folder "missing.csv"',
    "check columns.csv --task classification": 'no column for "text"',
    "check header.csv --task classification": "no rows",
    "check corpus.txt --boundary page": 'no boundary "page"',
}

MODELS = {
    "finetune --from nowhere --data labels.csv --out new": '"nowhere" is neither a directory with',
    "finetune --from fte --data labels.csv --out new": 'Did you mean "ft"',
    "finetune --from folder --data labels.csv --out new": '"folder" is neither a directory',
    "finetune --from weightless --data labels.csv --out new": r"a config.json and no weights \(model.safetensors\)",
    "finetune --from pickled --data labels.csv --out new": "pytorch_model.bin only, a pickle",
    "finetune --from damaged --data labels.csv --out new": 'The weights in "damaged" are damaged',
    "finetune --from partial --data labels.csv --out new": "lacks .* tensors of a bert encoder",
    "finetune --from unfinished --data labels.csv --out new": "run that has not finished",
    "pretrain --from gpt --data corpus.txt --out new": 'A "gpt2" model has no form for MaskedLM',
    "pretrain --from gpt --data corpus.txt --out new --objective bert": "next-sentence head",
    "pretrain --from weightless --data corpus.txt --out new": "no weights",
    "pretrain --data corpus.txt --out new --objective bert --family modernbert": "next-sentence head",
    "predict nowhere test.csv": '"nowhere" does not exist',
    "predict fte test.csv": 'does not exist.*Did you mean "ft"',
    "predict ft/model test.csv": 'no recipe.yaml.*Did you mean "ft"',
    "predict folder test.csv": "has no recipe.yaml",
    "predict unfinished test.csv": "no finished model",
    "predict pre test.csv": "not a fine-tuning run",
    "predict weightless test.csv": "no weights",
    "predict pickled test.csv": "a pickle",
    "predict damaged test.csv": "are damaged",
    "predict partial test.csv": "lacks",
    "evaluate weightless test.csv": "no weights",
    "explain weightless film": "no weights",
}

OUTPUTS = {
    f"{FINETUNE} --out finished": "holds a finished run; give another --out, or --overwrite",
    f"{FINETUNE} --out mine": "exists and is not a pretune run",
    f"{FINETUNE} --out mine --overwrite": "--overwrite leaves it alone",
    f"{FINETUNE} --out file": "file is a file",
    f"{FINETUNE} --out file/below": "file/below",
    f"{FINETUNE} --out finished --overwrite --data missing.csv": "no file or folder",
    f"{FINETUNE} --out finished --overwrite --data one_class.csv": "at least two classes",
    f"{FINETUNE} --out finished --overwrite --test unknown.csv": "does not occur",
    f"{PRETRAIN} --out finished --overwrite --data latin.txt": "expected UTF-8",
    "predict ft test.csv --out folder": 'found the folder "folder"',
    "predict ft test.csv --out file/p.jsonl": "cannot read or write",
    "predict ft columns.csv --out p.jsonl": "no column",
}

CONFIGS = {
    f"{PRETRAIN} --config missing.yaml": "Cannot read the config file missing.yaml",
    f"{PRETRAIN} --config no.yaml": "Cannot read the config file no.yaml",
    f"{PRETRAIN} --config text.yaml": r"must hold options \(key: value\); found str",
    f"{PRETRAIN} --config key.yaml": 'no option "batch_siz".*Did you mean "batch_size"',
    f"{PRETRAIN} --config inner.yaml": 'no option "objective.mask_rat".*Did you mean "objective.mask_rate"',
    f"{PRETRAIN} --config slot.yaml": "objective must be a name, or name and options; found 3",
    f"{PRETRAIN} --config kind.yaml": "batch_size: expected a whole number, found many",
    f"{PRETRAIN} --config verb.yaml": "verb.yaml is for another verb than pretrain",
    f"{PRETRAIN} --config": "--config needs a value",
}

EVERY = COMMAND_LINES | NUMBERS | WITHOUT_EFFECT | DATA | MODELS | OUTPUTS | CONFIGS


@pytest.mark.parametrize("words", EVERY)
def test_refused_in_one_sentence(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = refused(words, capsys)
    assert re.search(EVERY[words], found), found
