"""What is in a set of recordings, and each thing that can be wrong with it, is reported."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from rich.console import Console

from pretune.audio_checks import check_audio
from pretune.errors import DataError
from pretune.tasks.base import Task

RATE = 8000


class Transcripts(Task):
    """A task whose labels are texts, as far as `check` asks."""

    accepts = frozenset({"waveform"})
    label_role = "text"
    label_columns = ("text",)


def noise(seed: int, seconds: float = 1.0, scale: float = 0.1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, round(seconds * RATE)).astype(np.float32)


def write(folder: Path, sounds: list[Any], **columns: Any) -> Path:
    """A folder of recordings and the table of them."""
    folder.mkdir()
    for i, sound in enumerate(sounds):
        soundfile.write(folder / f"{i}.wav", sound, RATE)
    frame = pd.DataFrame({"path": [f"{i}.wav" for i in range(len(sounds))], **columns})
    frame.to_csv(folder / "rows.csv", index=False)
    return folder


def twelve(folder: Path, start: int = 0, **columns: Any) -> Path:
    return write(folder, [noise(start + i, 0.5 + i / 10) for i in range(12)], **{"label": list("ab") * 6, **columns})


def checked(data: Any, task: Any = "classification", test: Any = None, **columns: str):
    return check_audio(data, task, test, columns)


def said(messages) -> str:
    return "\n".join(messages)


def test_good_data_has_no_problems(tmp_path):
    report = checked(twelve(tmp_path / "a", speaker=list("uvw") * 4))
    assert (report.status, report.problems, report.warnings) == (0, (), ())
    facts = report.facts
    assert (facts["recordings"], facts["recordings that cannot be read"], facts["speakers"]) == (12, 0, 3)
    assert facts["hours"] == round(12.6 / 3600, 4)
    assert [facts["seconds"][k] for k in ("least", "median", "most")] == [0.5, 1.05, 1.6]
    assert facts["labels"] == {"a": 6, "b": 6}
    assert facts["sampling rate"] == {"8000 Hz": 12}
    assert facts["channels"] == {"1": 12}
    json.dumps(facts)
    out = io.StringIO()
    report.render(Console(file=out, width=120))
    assert "No problems found" in out.getvalue()


def test_rates_and_channels_are_counted(tmp_path):
    folder = twelve(tmp_path / "a")
    soundfile.write(folder / "0.wav", np.stack([noise(0), noise(1)], 1), 44100)
    facts = checked(folder).facts
    assert facts["sampling rate"] == {"8000 Hz": 11, "44100 Hz": 1}
    assert facts["channels"] == {"1": 11, "2": 1}


def test_bad_recordings_are_named_with_file_and_row(tmp_path):
    folder = twelve(tmp_path / "a")
    whole = (folder / "3.wav").read_bytes()
    (folder / "3.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "5.wav").unlink()
    with (folder / "rows.csv").open("a") as file:
        file.write("0.wav,\n")
    report = checked(folder)
    assert report.status == 2
    assert report.facts["recordings that cannot be read"] == 3
    problem = report.problems[0]
    assert problem.startswith("3 of 13 recordings cannot be used:")
    assert 'rows.csv, row 5: Cannot read the recording "' in problem
    assert 'rows.csv, row 7: There is no recording "' in problem
    assert 'rows.csv, line 14: the label (column "label") is empty' in problem


def test_nothing_usable_and_nothing_there(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound")
    assert "No recording can be used." in checked(tmp_path, None).problems
    with pytest.raises(DataError, match="no rows"):
        checked([], None)


def test_an_unlabelled_folder(tmp_path):
    report = checked(twelve(tmp_path / "a"), None)
    assert report.status == 0
    assert report.facts["recordings"] == 12
    assert "labels" not in report.facts


def test_silent_and_clipped_recordings_are_warned_of(tmp_path):
    folder = twelve(tmp_path / "a")
    soundfile.write(folder / "2.wav", noise(2, scale=0.0001), RATE)
    soundfile.write(folder / "7.wav", noise(7, scale=2).clip(-1, 1), RATE)
    report = checked(folder)
    assert report.status == 0
    assert report.facts["silent recordings"] == report.facts["clipped recordings"] == 1
    silent, clipped = report.warnings
    assert "1 of 12 recordings are silent" in silent
    assert '2.wav" (' in silent
    assert "rows.csv, row 4)" in silent
    assert "1 of 12 recordings are clipped" in clipped
    assert '7.wav" (' in clipped


def test_repeats_and_conflicts(tmp_path):
    sounds = [noise(i) for i in (*range(8), 0, 1)]
    folder = write(tmp_path / "a", sounds, label=[*"abababab", "a", "a"])
    soundfile.write(folder / "9.flac", soundfile.read(folder / "9.wav", dtype="int16")[0], RATE)  # another file
    table = (folder / "rows.csv").read_text().replace("9.wav", "9.flac")
    (folder / "rows.csv").write_text(table)
    report = checked(folder)
    assert report.facts["recordings that repeat an earlier one"] == 2
    assert "2 recordings have the samples of an earlier one (20.0% of all)" in report.warnings[0]
    assert "1 recordings have the samples of another with a different label" in report.warnings[1]
    assert '9.flac"' in report.warnings[1]


def test_classes_and_values(tmp_path):
    one = checked(twelve(tmp_path / "a", label=["a"] * 12))
    assert "All rows have the label 'a'" in said(one.problems)
    values = twelve(tmp_path / "b", label=[i / 2 for i in range(12)])
    assert checked(values, "regression").facts["label mean"] == 2.75
    words = checked(twelve(tmp_path / "c"), "regression")
    assert "row 2: expected a number as label, found 'a'" in said(words.problems)
    named = checked(twelve(tmp_path / "d", label=1, mood=list("xy") * 6), label="mood")
    assert named.facts["labels"] == {"x": 6, "y": 6}


def test_overlap_with_test_data(tmp_path):
    train, test = twelve(tmp_path / "a"), twelve(tmp_path / "b", 100, label=list("abc") * 4)
    (test / "0.wav").write_bytes((train / "0.wav").read_bytes())
    (test / "1.wav").unlink()
    report = checked(train, test=test)
    assert report.facts["test recordings also in training"] == 1
    assert "1 of 11 test recordings are also in the training data" in said(report.warnings)
    assert "Test data has labels that training data has not: c." in said(report.problems)
    assert "1 of 12 test recordings cannot be used" in said(report.problems)


@pytest.mark.parametrize("column", ["speaker", "speaker_id", "actor", "client_id", "spk"])
def test_speakers_in_both(column, tmp_path):
    train = twelve(tmp_path / "a", **{column: list("uvw") * 4})
    report = checked(train, test=twelve(tmp_path / "b", 100, **{column: list("wxyz") * 3}))
    assert (report.facts["test speakers"], report.facts["test speakers also in training"]) == (4, 1)
    expected = "1 of 4 test speakers are also in the training data (w): results look better than they are for new"
    assert expected in said(report.warnings)
    apart = checked(train, test=twelve(tmp_path / "c", 100, **{column: list("xy") * 6}))
    assert (apart.warnings, apart.facts["test speakers also in training"]) == ((), 0)
    unknown = checked(train, test=twelve(tmp_path / "d", 100))
    assert "test speakers" not in unknown.facts


def test_transcripts(tmp_path):
    texts = ["one two"] * 6 + ["two one"] * 4 + ["two, é", "!"]
    report = checked(twelve(tmp_path / "a", text=texts), Transcripts())
    assert report.status == 0
    facts = report.facts
    assert facts["alphabet"] == " !,enotwé"
    assert facts["characters in the alphabet"] == 9
    assert (facts["characters"]["median"], facts["words"]["median"]) == (7, 2)
    assert "labels" not in facts
    assert "3 characters occur fewer than 5 times: '!' (1), ',' (1), 'é' (1)." in said(report.warnings)
    assert "1 transcripts have no word" in said(report.warnings)


def test_transcripts_that_cannot_be(tmp_path):
    texts = ["one two"] * 12
    texts[0] = "far too many words for half a second"  # 36 characters
    texts[3], texts[4] = "x" * 25, ""  # 25 characters in 0.8 s: just possible
    report = checked(twelve(tmp_path / "a", text=texts), Transcripts())
    assert report.status == 2
    assert 'line 6: the text (column "text") is empty' in report.problems[0]
    assert "3 of 12 recordings cannot be used" in report.problems[0]
    assert "needs 37 frames and the recording has 12 (0.50 s): is it cut, or" in report.problems[0]
    assert "needs 49 frames and the recording has 20 (0.80 s): is it cut, or" in report.problems[0]


def test_a_single_speaker_cannot_be_held_out(tmp_path):
    report = checked(twelve(tmp_path / "a", text="one two", speaker="ann"), Transcripts())
    assert 'All 12 recordings are of the speaker "ann", so that none can be held out' in said(report.warnings)


def test_characters_that_test_data_has_alone(tmp_path):
    train = twelve(tmp_path / "a", text="one two")
    report = checked(train, Transcripts(), twelve(tmp_path / "b", 100, text="nine two"))
    assert "Test transcripts have characters that training data has not, so none is ever right: 'i'." in report.warnings
    assert report.status == 0


def test_real_data(shared: Path):
    folder = shared / "fsdd"
    if not folder.is_dir():
        pytest.skip("no fsdd here")
    report = checked(folder)
    assert report.status == 0
    assert report.facts["recordings"] == 3000
    assert report.facts["speakers"] == 6
    assert set(report.facts["labels"].values()) == {300}
    spoken = checked(folder, Transcripts())
    (problem,) = spoken.problems
    assert "31 of 3,000 recordings cannot be used" in problem  # cut so closely that frames of 40 ms are too few
    assert "frame_ms 20 doubles them?" in problem
    assert spoken.warnings == ()
    assert spoken.facts["alphabet"] == "efghinorstuvwxz"
