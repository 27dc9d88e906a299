"""Folders, tables, lists and data sets of recordings give the same records; what is missing or mixed up is said."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import soundfile

from pretune import data
from pretune.audio_reading import packed, samples
from pretune.errors import DataError

RATE = 8000
ROLES = {"audio": data.AUDIO_COLUMNS["audio"], "label": ("label", "class")}
SPOKEN = {"audio": data.AUDIO_COLUMNS["audio"], "text": ("text", "transcript")}
LABELS = ["no", "no", "no", "yes", "yes", "yes"]
SOUNDS = np.random.default_rng(0).normal(0, 3000, (6, 400)).astype(np.int16)


def read(source, roles=ROLES, required=None):
    required = tuple(roles) if required is None else required
    return [dict(r) for r in data.read_records(source, roles=roles, required=required)]


def inputs(source):
    return read(source, {"audio": ROLES["audio"]})


def same(rows, labelled=True):
    assert np.array_equal(np.stack([samples(r["audio"], RATE) for r in rows]), SOUNDS)
    if labelled:
        assert [r["label"] for r in rows] == LABELS


def content(sound, form="FLAC") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, format=form)
    return file.getvalue()


def write_folder(folder: Path, ending: str = "wav") -> Path:
    for i, (sound, label) in enumerate(zip(SOUNDS, LABELS, strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / label / f"{i:03d}.{ending}", sound, RATE)
    return folder


@pytest.mark.parametrize("ending", ["wav", "flac", "aiff"])
def test_a_folder_of_classes(ending, tmp_path):
    folder = write_folder(tmp_path / "speech", ending)
    same(read(folder))
    same(inputs(folder), labelled=False)
    assert "label" not in inputs(folder)[0]
    assert len(inputs(folder / "yes" / f"004.{ending}")) == 1


def test_the_only_class_keeps_its_name(tmp_path):
    folder = write_folder(tmp_path / "speech")
    assert {r["label"] for r in read(folder)} == {"no", "yes"}
    for file in (folder / "yes").iterdir():
        file.unlink()
    assert {r["label"] for r in read(folder)} == {"no"}


def test_splits_of_a_folder(tmp_path):
    for split in ("train", "test"):
        write_folder(tmp_path / split)
    with pytest.raises(DataError, match=r"holds several splits \(test, train\)"):
        read(tmp_path)
    same(read(f"{tmp_path}:test"))


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_tables_of_paths_are_relative_to_the_table(ending, tmp_path):
    folder = write_folder(tmp_path / "audio")
    files = [str(f.relative_to(tmp_path)) for f in sorted(folder.rglob("*.wav"))]
    frame = pd.DataFrame({"speaker": list("abcabc"), "audio_filepath": files, "class": LABELS, "duration": 0.05})
    path = tmp_path / f"rows.{ending}"
    if ending in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    elif ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=ending == "jsonl")
    same(read(path))
    same(read(tmp_path))  # the table has the labels of the files beside it
    found = data.read_records(path, roles=ROLES, columns={"group": "speaker"})
    assert found["group"] == list("abcabc")


def test_tables_win_when_more_than_the_input_is_wanted(tmp_path):
    folder = write_folder(tmp_path / "audio")
    with pytest.raises(DataError, match=r'no column for "text".* A folder of recordings has no columns: give a .csv'):
        read(tmp_path, SPOKEN)
    files = [str(f.relative_to(tmp_path)) for f in sorted(folder.rglob("*.wav"))]
    pd.DataFrame({"path": files[:4], "text": list("abcd")}).to_csv(tmp_path / "rows.csv", index=False)
    assert [r["text"] for r in read(tmp_path, SPOKEN)] == list("abcd")
    assert len(inputs(tmp_path)) == 6  # of the files alone
    assert len(read(tmp_path, SPOKEN, required=("audio",))) == 6
    named = data.read_records(tmp_path, roles={"audio": ROLES["audio"]}, columns={"who": "text"})
    assert named["who"] == list("abcd")


def test_parquet_with_the_content(tmp_path):
    audio = [{"bytes": content(s), "path": f"{i}.flac"} for i, s in enumerate(SOUNDS)]
    pd.DataFrame({"audio": audio, "label": LABELS}).to_parquet(tmp_path / "rows.parquet")
    rows = read(tmp_path / "rows.parquet")
    same(rows)
    assert rows[3]["audio"]["path"] == "3.flac"


def decoded(sound):
    return {"array": sound / 32768, "sampling_rate": RATE}


def test_what_is_in_memory(tmp_path):
    folder = write_folder(tmp_path / "audio")
    files = sorted(folder.rglob("*.wav"))
    for items in (files, [str(f) for f in files], [decoded(s) for s in SOUNDS], [(s, RATE) for s in SOUNDS]):
        same(inputs(items), labelled=False)
    same(inputs([{"bytes": content(s), "path": None} for s in SOUNDS]), labelled=False)
    same(read([{"audio": decoded(s), "label": y} for s, y in zip(SOUNDS, LABELS, strict=True)]))
    same(read([decoded(s) | {"label": y} for s, y in zip(SOUNDS, LABELS, strict=True)]))
    same(read([{"path": str(f), "label": y} for f, y in zip(files, LABELS, strict=True)]))
    same(read(pd.DataFrame({"wav": [str(f) for f in files], "label": LABELS})))
    same(read({"audio": [decoded(s) for s in SOUNDS], "label": np.array(LABELS)}))


def test_bare_arrays_and_mixtures_are_refused_with_their_row(tmp_path):
    for source in ([SOUNDS[0]], SOUNDS):
        with pytest.raises(DataError, match=r"row 1: expected a path, .* without its sampling rate"):
            inputs(source)
    with pytest.raises(
        DataError, match=r"row 2: the audio .* is dict, that of the list row 1 is text; use one type"
    ) as bad:
        inputs(["a.wav", (SOUNDS[0], RATE)])
    assert len(str(bad.value)) < 300


def data_set(audio):
    rows = datasets.Dataset.from_dict({"audio": audio, "label": [["no", "yes"].index(y) for y in LABELS]})
    return rows.cast_column("label", datasets.ClassLabel(names=["no", "yes"])).cast_column("audio", datasets.Audio())


def test_data_sets_are_read_undecoded(tmp_path):
    """That is, without torchcodec."""
    held = data_set([{"bytes": content(s), "path": None} for s in SOUNDS])
    assert isinstance(held.features["audio"], datasets.Audio)
    same(read(held))
    held.save_to_disk(tmp_path / "saved")
    same(read(tmp_path / "saved"))
    held.to_parquet(tmp_path / "rows.parquet")
    same(read(tmp_path / "rows.parquet"))
    paths = [str(f) for f in sorted(write_folder(tmp_path / "audio").rglob("*.wav"))]
    same(read(data_set(paths)))
    assert data.fingerprint(held) == data.fingerprint(held.select(range(6)))
    assert data.fingerprint(held) != data.fingerprint(held.select(range(5)))


def test_stdin_has_a_path_a_line(tmp_path, monkeypatch):
    files = sorted(write_folder(tmp_path / "audio").rglob("*.wav"))

    class Typed:
        buffer = io.BytesIO("".join(f"{f}\n" for f in files).encode())

    monkeypatch.setattr(sys, "stdin", Typed)
    same(inputs("-"), labelled=False)
    Typed.buffer = io.BytesIO(b'{"wav": "a.wav", "label": "x"}\n')
    assert read("-")[0]["audio"] == "a.wav"


def test_bad_rows_are_named(tmp_path):
    (tmp_path / "rows.csv").write_text("path,label\na.wav,x\n,y\nb.wav\n")
    rows = list(data.stream_records(tmp_path / "rows.csv", roles=ROLES, required=tuple(ROLES)))
    assert rows[0][0]["audio"] == str(tmp_path / "a.wav")
    assert 'rows.csv, line 3: the audio (column "path") is empty' in str(rows[1][1])
    assert "rows.csv, line 4: expected 2 fields" in str(rows[2][1])
    (tmp_path / "rows.jsonl").write_text('{"audio": {"array": [0.1], "sampling_rate": 8000}}\n{"audio": [0.1, 0.2]}\n')
    items = list(data.stream_records(tmp_path / "rows.jsonl", roles={"audio": ("audio",)}, required=("audio",)))
    assert samples(items[0][0]["audio"], RATE).tolist() == [3277]
    assert "rows.jsonl, line 2: expected a path" in str(items[1][1])


def test_what_is_wrong_with_a_folder_is_said(tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    soundfile.write(folder / "a.wav", SOUNDS[0], RATE)
    with pytest.raises(DataError, match="has recordings and no class sub-folders"):
        read(folder)
    write_folder(folder)
    with pytest.raises(DataError, match=r'row 1: the recording "a.wav" is in no class sub-folder'):
        read(folder)
    (folder / "no" / "b.m4a").write_bytes(b"x")
    with pytest.raises(DataError, match=r'1 recordings of a format that cannot be read, such as "b.m4a"; convert'):
        inputs(folder)
    with pytest.raises(DataError, match=r"expected a file that ends in .wav, .wave, .flac"):
        inputs(Path(__file__))
    with pytest.raises(DataError, match=r'There is no file or folder "nowhere.flac"'):
        inputs("nowhere.flac")


def test_recordings_do_not_change_what_text_and_images_read(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert [d.text for d in data.documents(tmp_path)] == ["one", "two"]
    with pytest.raises(DataError, match=r"holds .*\.wav; expected files that end in .png"):
        read(tmp_path / "yes", {"image": ("image",)})


def test_fingerprints_follow_the_content(tmp_path):
    folder = write_folder(tmp_path / "a")
    before = data.fingerprint(folder)
    assert before == data.fingerprint(write_folder(tmp_path / "b"))
    soundfile.write(folder / "no" / "000.wav", SOUNDS[1], RATE)
    assert data.fingerprint(folder) != before
    items = [(s, RATE) for s in SOUNDS]
    other = [(s.copy(), RATE) for s in SOUNDS]
    assert data.fingerprint(items) == data.fingerprint(other)
    other[3][0][200] += 1
    assert data.fingerprint(items) != data.fingerprint(other)


def test_samples_in_memory_are_packed_without_the_time():
    """The peak chunk of a .wav has the time of writing: equal samples would have other bytes a second later."""
    chunks = packed((SOUNDS[0], RATE))["bytes"][:100]
    assert b"fmt " in chunks
    assert b"data" in chunks
    assert b"PEAK" not in chunks


def test_real_data(shared: Path):
    folder = shared / "fsdd"
    if not folder.is_dir():
        pytest.skip("no fsdd here")
    rows = list(data.stream_records(folder, roles=ROLES, required=tuple(ROLES)))
    assert len(rows) == 3000
    assert not [error for _, error in rows if error]
    assert {record["label"] for record, _ in rows} == set("0123456789")
    first = rows[0][0]
    given, rate = soundfile.read(first["audio"], dtype="int16")
    assert np.array_equal(samples(first["audio"], rate), given)
    spoken = list(data.stream_records(folder, roles=SPOKEN, required=tuple(SPOKEN)))
    assert spoken[0][0]["text"] == "zero"
    assert len(list(data.stream_records(folder, roles={"audio": ROLES["audio"]}, required=("audio",)))) == 3000
