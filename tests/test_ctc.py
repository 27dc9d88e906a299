"""Speech to text: alphabet, transcripts, times, windows, word models, error rates."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import nn

import pretune
from planted_sounds import spoken
from pretune import registry
from pretune.cli import main
from pretune.ctc_windows import in_windows
from pretune.errors import ConfigError, DataError
from pretune.modalities.audio import Audio
from pretune.spelling import Spelling
from pretune.tasks.ctc import Ctc
from pretune.transcript_errors import edits, rates


def tuned(data: Any, out: Path, **options: Any) -> pretune.RunResult:
    given: dict[str, Any] = {
        "scratch": True, "size": "tiny", "modality": "audio", "budget": "6steps", "batch_size": 8, "valid_rate": 0,
        "task": "ctc",
    }  # fmt: skip
    return pretune.finetune(data, out=str(out), **{**given, **options})


def test_transcripts_are_compared_without_case_and_punctuation():
    spelling = Spelling()
    assert spelling.normal("  Don’t — stop,\tÉMILE!") == "don't stop émile"
    assert spelling.normal("E\u0301mile") == "émile"
    assert Spelling(lower=False, drop_punctuation=False).normal(" Stop,  now! ") == "Stop, now!"
    spelling.learn(["ab a", "c'"])
    assert spelling.symbols == ["<pad>", "|", "'", "a", "b", "c", "<unk>"]
    assert spelling.encode("a b?") == [3, 1, 4, 6]
    with pytest.raises(DataError, match="lacks characters of the transcripts: b c"):
        spelling.learn(["abc"], "a")


def test_error_rates_are_of_all_words_and_characters():
    rows = edits(["one two", "three"], ["one too", "three four"])
    assert rows.tolist() == [[1, 2, 1, 7], [1, 1, 5, 5]]
    found = rates(rows)
    assert found["wer"] == pytest.approx(2 / 3)
    assert found["cer"] == pytest.approx(6 / 12)
    assert found["exact"] == 0
    task = Ctc()
    predictions, truth = [{"text": t} for t in ("one too", "three")], ["one two", "Three!"]
    assert task.metrics(predictions, truth)["exact"] == 0.5
    assert task.rescored(predictions, truth)([1, 1]) == {"char_accuracy": 1.0, "wer": 0.0, "cer": 0.0, "exact": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lm": "x.txt"}, "lm has no effect without --task.decoder beam"),
        ({"beam_width": 5}, "beam_width has no effect"),
        ({"decoder": "beam", "lm_weight": 1.0}, "lm_weight has no effect without --task.lm"),
        ({"decoder": "best"}, 'decoder is "greedy" or "beam"'),
        ({"decoder": "beam", "lm": "x.txt", "lm_weight": -1.0}, "lm_weight must be 0 or more"),
        ({"case": "upper"}, 'case is "lower" or "keep"'),
    ],
)
def test_options_without_effect_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Ctc(**options)


def test_impossible_transcripts_are_named(tmp_path):
    records = spoken(8)
    for text, end in (("ab" * 11, "frame_ms 20 doubles them, from scratch."), ("ab" * 15, "correct or remove it.")):
        with pytest.raises(
            DataError, match=rf"row 9: the recording has 12 frames.*too few for the {len(text)}.*{end}$"
        ):
            tuned([*records, {**records[0], "audio": _cut(records[0], 0.5), "text": text}], tmp_path)
    with pytest.raises(DataError, match=r"row 9, has no letters in its transcript '\?!'"):
        tuned([*records, {**records[0], "text": "?!"}], tmp_path)
    with pytest.raises(DataError, match=r"lasts \d\.\d s and max_seconds is 0.5.*cut both at pauses"):
        tuned(records, tmp_path, modality={"name": "audio", "max_seconds": 0.5})
    assert not list(tmp_path.iterdir())


def _cut(record: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {"array": record["audio"]["array"][: int(seconds * 16_000)], "sampling_rate": 16_000}


@pytest.mark.slow
def test_letters_are_learnt_and_words_get_their_times(tmp_path):
    run = tuned(spoken(200), tmp_path / "run", budget="400steps", lr=2e-3, batch_size=16, test=spoken(40, seed=1))
    assert run.metrics["test_cer"] < 0.15
    records = spoken(5, seed=2)
    for found in pretune.load(run.path).predict(records):
        times = [t for w in found["words"] for t in (w["start"], w["end"])]
        assert times == sorted(times)
        assert " ".join(w["word"] for w in found["words"]) == found["text"]


def test_a_word_model_is_stored_with_the_run_and_a_head_of_other_letters_starts_anew(tmp_path, capsys):
    text = tmp_path / "words.txt"
    text.write_text("ab a\nba ab\n" * 5)
    first = tuned(spoken(16), tmp_path / "one", task={"name": "ctc", "decoder": "beam", "lm": str(text)})
    task: Any = pretune.load(first.path).task
    assert task._ngram.log_prob(("<s>",), "ab") > task._ngram.log_prob(("<s>",), "bb")
    assert pretune.load(first.path).predict(spoken(2))[0].keys() == {"text", "words"}
    options = {"scratch": False, "size": None, "from_": str(first.path)}
    tuned(spoken(16), tmp_path / "same", **options)
    assert "loaded 100 of 100" in capsys.readouterr().err
    others = [{**r, "text": r["text"].replace("a", "x")} for r in spoken(16)]
    tuned(others, tmp_path / "other", **options)
    said = capsys.readouterr().err
    assert "other letters" in said
    assert "loaded 98 of 100 tensors; new: lm_head.weight, lm_head.bias" in said


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a head that says many things, trained to decode greedily, and transcripts."""
    folder = tmp_path_factory.mktemp("trained")
    run = tuned(spoken(16), folder / "run").path
    model: Any = pretune.load(run).task.model
    model.cpu()
    torch.nn.init.normal_(model.lm_head.weight, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(run / "model")
    (folder / "words.txt").write_text("ab a\nba ab\n" * 5)
    rows = [{"path": f"{k}.wav", "text": r["text"]} for k, r in enumerate(spoken(6, seed=2))]
    for row, record in zip(rows, spoken(6, seed=2), strict=True):
        soundfile.write(folder / row["path"], record["audio"]["array"], 16_000)
    pd.DataFrame(rows).to_csv(folder / "test.csv", index=False)
    return folder


def test_prediction_may_decode_in_another_way(trained, capsys):
    lm, test = str(trained / "words.txt"), str(trained / "test.csv")
    words = [str(trained / "run"), test]
    beam = ["--task.decoder", "beam", "--task.lm", lm, "--task.word_bonus", "3"]
    found = {}
    for name, options in (("greedy", []), ("beam", beam), ("again", ["--task.decoder", "greedy"])):
        assert main(["predict", *words, *options]) == 0
        found[name] = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert found["greedy"] == found["again"]
    changed = {"decoder": "beam", "lm": lm, "word_bonus": 3.0}
    predictor = pretune.load(trained / "run", task=changed)
    assert found["beam"] == [p["text"] for p in predictor.predict(test)] != found["greedy"]
    assert found["beam"] == [p["text"] for p in pretune.predict(words[0], test, task=changed)]
    assert predictor.task.beam_width == 50
    assert main(["evaluate", *words, *beam, "--out", str(trained / "scores")]) == 0
    scored = json.loads((trained / "scores/evaluation.json").read_text())
    truth = [r["text"] for r in spoken(6, seed=2)]
    assert scored["metrics"]["cer"] == pytest.approx(rates(edits(truth, found["beam"]))["cer"])


def test_what_is_turned_off_goes_with_what_it_needs(trained):
    other = trained / "words.txt"
    task = Ctc(decoder="beam", lm="words of the training.txt", lm_weight=0.9)
    task.change({"decoder": "greedy"})
    assert task.options() == Ctc().options()
    task = Ctc(decoder="beam", beam_width=9, lm="words of the training.txt", lm_weight=0.9)
    task.change({"lm": None})
    assert task.options() == Ctc(decoder="beam", beam_width=9).options()
    task.change({"lm": str(other), "lm_weight": 0.2})
    assert task.options() == Ctc(decoder="beam", beam_width=9, lm=str(other), lm_weight=0.2).options()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task.case", "keep"], "task.case is read in training alone .* trained ctc .*decoder, beam_width.*leave it"),
        (["--task.lm", "x.txt"], "lm has no effect without --task.decoder beam"),
        (["--task.decoder", "beam", "--task.lm", "none.txt"], "none.txt"),
        (["--task.decoder", "beam", "--task.beam_width", "wide"], "--task.beam_width: expected a whole number"),
        (["--task.decoder", "beam", "--task.beam_width", "0"], "beam_width must be from 1"),
        (["--task.min_score", "0.1"], "no option --task.min_score"),
        (["--task", "ctc"], "The task is that of the run; leave --task out"),
    ],
)
def test_options_that_prediction_does_not_read_are_refused(trained, options, message, capsys):
    for verb in ("predict", "evaluate"):
        assert main([verb, str(trained / "run"), str(trained / "test.csv"), *options]) == 2
        said = capsys.readouterr()
        assert re.search(message, said.err), said.err
        assert not said.out
        assert said.err.count("\n") == 1


def test_every_task_says_which_options_prediction_reads():
    for cls in registry.classes("task"):
        assert set(cls.predicting) <= set(cls.option_names())
        for option in set(cls.option_names()) - set(cls.predicting):
            with pytest.raises(ConfigError, match=f"task.{option} is read in training alone"):
                cls().change({option: cls.default(option)})
    with pytest.raises(ConfigError, match=r'no option "beam_widht"\. Did you mean "beam_width"'):
        Ctc().change({"beam_widht": 3})


class Local(nn.Module):
    """Logits that depend on nothing but the frame itself."""

    def __init__(self, config: Any, spectral: bool) -> None:
        super().__init__()
        self.config, self.spectral = config, spectral
        self.convolutions = nn.ModuleList(
            nn.Conv1d(1, 1, k, s) for k, s in zip(config.conv_kernel, config.conv_stride, strict=True)
        )

    def forward(self, attention_mask: Any = None, **inputs: torch.Tensor) -> SimpleNamespace:
        if self.spectral:
            return SimpleNamespace(logits=inputs["input_features"][..., :3])
        x = inputs["input_values"][:, None]
        for layer in self.convolutions:
            x = layer(x)
        return SimpleNamespace(logits=x.transpose(1, 2))


@pytest.mark.parametrize("family", ["wav2vec2-bert", "wav2vec2"])
@pytest.mark.parametrize("seconds", [5.0, 8.3, 20.01])
def test_windows_give_every_frame_once(family, seconds):
    modality = Audio(max_seconds=4)
    config = modality.config("tiny", "wav2vec2")
    modality.config("tiny", family)
    torch.manual_seed(0)
    model: Any = Local(config, modality.spectral)
    rng = np.random.default_rng(0)
    batch = modality.pad([{"input_values": (rng.standard_normal(int(seconds * 16_000)) * 3000).astype(np.int16)}])
    whole = model(**{modality.main_input: batch[modality.main_input]}).logits
    torch.testing.assert_close(in_windows(model, modality, batch), whole)


def test_what_cannot_be_learnt_is_scored_all_the_same(tmp_path):
    train = spoken(16)
    hurried = {**train[0], "audio": _cut(train[0], 0.5), "text": "ab" * 15}
    long = {"audio": {"array": np.tile(train[1]["audio"]["array"], 8), "sampling_rate": 16_000}, "text": "a b"}
    test = [*spoken(2), hurried, long]
    run = tuned(train, tmp_path / "run", modality={"name": "audio", "max_seconds": 3}, test=test)
    assert json.loads((run.path / "test.json").read_text())["num_records"] == 4
    assert pretune.evaluate(str(run.path), test).num_records == 4


def test_long_recordings_are_read_whole(tmp_path):
    run = tuned(spoken(16), tmp_path / "run", modality={"name": "audio", "max_seconds": 3})
    predictor = pretune.load(run.path)
    long = {"audio": {"array": np.tile(spoken(1)[0]["audio"]["array"], 8), "sampling_rate": 16_000}}
    assert set(predictor.predict([long, *spoken(2)])[0]) == {"text", "words"}
    assert predictor.modality.num_truncated == 0
