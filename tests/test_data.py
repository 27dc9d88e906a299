from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from pretune import data, splits
from pretune.errors import ConfigError, DataError

LABELLED = {"roles": data.ROLES["classification"], "required": ("text", "label")}
TAGGED = {"roles": data.ROLES["tagging"], "required": ("tokens", "tags")}
ROWS = [{"text": "good", "label": "pos"}, {"text": 'bad, "very"\nbad', "label": "neg"}]


def _write(path: Path, text: str | bytes) -> Path:
    raw = text.encode() if isinstance(text, str) else text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def _rows(records: datasets.Dataset) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if not k.startswith("_")} for row in records]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.json", "a.parquet", "a.ndjson"])
def test_formats_give_the_same_records(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame(ROWS)
    raw = {
        "csv": frame.to_csv(index=False).encode(),
        "jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
        "ndjson": b"\xef\xbb\xbf" + "\n\n".join(map(json.dumps, ROWS)).encode(),
        "json": json.dumps(ROWS).encode(),
        "parquet": frame.to_parquet(),
    }[name.split(".")[1]]
    records = data.read_records(_write(tmp_path / name, raw), **LABELLED)
    assert _rows(records) == ROWS
    assert records["_file"][0] == str(tmp_path / name)


def test_python_objects_give_the_same_records(tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_list(ROWS)
    dataset.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=dataset, test=dataset.select([0])).save_to_disk(tmp_path / "both")
    for source in (
        pd.DataFrame(ROWS),
        ROWS,
        tuple(ROWS),
        dataset,
        tmp_path / "saved",
        f"{tmp_path}/both:train",
    ):
        assert _rows(data.read_records(source, **LABELLED)) == ROWS
    assert _rows(data.read_records(f"{tmp_path}/both:test", **LABELLED)) == ROWS[:1]
    assert [d.text for d in data.documents(["a", "b"])] == ["a", "b"]
    with pytest.raises(DataError, match=r"several splits \(test, train\)"):
        data.read_records(tmp_path / "both", **LABELLED)
    with pytest.raises(DataError, match="Cannot read data from int"):
        data.read_records(3, **LABELLED)
    with pytest.raises(DataError, match="Cannot read data from DatasetDict"):
        data.read_records(datasets.DatasetDict(train=dataset), **LABELLED)


def test_class_numbers_become_names(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features(text=datasets.Value("string"), label=names)
    dataset = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    dataset.to_parquet(tmp_path / "a.parquet")
    for source in (dataset, tmp_path / "a.parquet"):
        assert data.read_records(source, **LABELLED)["label"] == ["pos", "neg"]
    tags = datasets.List(datasets.ClassLabel(names=["O", "B-PER"]))
    features = datasets.Features(tokens=datasets.List(datasets.Value("string")), ner_tags=tags)
    tagged = datasets.Dataset.from_dict({"tokens": [["Ann", "is"]], "ner_tags": [[1, 0]]}, features=features)
    assert data.read_records(tagged, **TAGGED)["tags"] == [["B-PER", "O"]]
    unlabelled = datasets.Dataset.from_dict({"text": ["a"], "label": [-1]}, features=dataset.features)
    with pytest.raises(DataError, match=r"row 1: the label .* is empty"):
        data.read_records(unlabelled, **LABELLED)


def test_values_are_taken_as_they_are_written(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", "text,label\nNA,null\nNone,007\n")
    assert _rows(data.read_records(path, **LABELLED)) == [
        {"text": "NA", "label": "null"},
        {"text": "None", "label": "007"},
    ]
    semicolons = _write(tmp_path / "b.csv", "Text;LABEL\r\na,b;1,5\r\n")
    assert _rows(data.read_records(semicolons, **LABELLED)) == [{"text": "a,b", "label": "1,5"}]


def test_tsv_quotes_are_quoting_only_where_they_fit(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tsv", 'sentence\tlabel\n" what a film\t1\n"he said ""no"""\t0\n"x" y\t0\n')
    assert data.read_records(path, **LABELLED)["text"] == ['" what a film', 'he said "no"', '"x" y']


def test_tsv_with_line_breaks_in_quotes_is_what_pandas_wrote(tmp_path: Path) -> None:
    texts = ["line one\nline two", 'says "no"', "plain", "tab\there"]
    for frame in (pd.DataFrame({"text": texts}), pd.DataFrame({"label": list("abcd"), "text": texts})):
        frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
        assert data.read_records(str(tmp_path / "a.tsv"), roles={"text": ("text",)})["text"][:] == texts
    stray = _write(tmp_path / "b.tsv", 'text\tlabel\n"opened\ta\nnext "word" here\tb\nclosed"\tc\n')
    assert data.read_records(str(stray), roles={"text": ("text",)})["text"][:] == [
        '"opened',
        'next "word" here',
        'closed"',
    ]


def test_a_frame_with_two_columns_of_one_name_is_refused() -> None:
    frame = pd.concat([pd.DataFrame({"text": ["a"], "label": ["b"]})] * 2, axis=1)
    with pytest.raises(DataError, match='two columns "text"; rename one'):
        data.read_records(frame, roles={"text": ("text",)})


def test_columns_found_named_and_kept() -> None:
    row = {"premise": "p", "hypothesis": "h", "sentence2": "s", "label": 1, "score": 2.5, "doc": 7}
    assert _rows(data.read_records([row], **LABELLED)) == [{"text": "p", "text_pair": "h", "label": 1}]
    named = {"text": "sentence2", "label": "score", "group": "doc"}
    assert _rows(data.read_records([row], columns=named, **LABELLED)) == [{"text": "s", "label": 2.5, "group": 7}]
    both = {"text": "t", "sentence2": "s", "title": "x", "label": 1}
    assert _rows(data.read_records([both], **LABELLED)) == [{"text": "t", "label": 1}]


def test_missing_columns_list_what_is_there(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", "txt,label\na,1\n")
    with pytest.raises(DataError, match=r"its columns are txt, label.*--text_column"):
        data.read_records(path, **LABELLED)
    with pytest.raises(DataError, match=r'no column "lable" for --label_column.*Did you mean "label"'):
        data.read_records(path, columns={"text": "txt", "label": "lable"}, **LABELLED)
    with pytest.raises(DataError, match=r"row 2: has no \"text\" \(text\) as the rows before"):
        data.read_records([{"text": "a", "label": 1}, {"title": "b", "label": 1}], **LABELLED)
    plain = _write(tmp_path / "a.txt", "a\n")
    with pytest.raises(DataError, match="plain text file holds text only"):
        data.read_records(plain, **LABELLED)
    with pytest.raises(DataError, match='no column "body"'):
        next(data.documents(plain, text_column="body"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "text,label\na,1\nb,1,2\n", r"a\.csv, line 3: expected 2 fields as in the header, found 3"),
        ("a.csv", 'text,label\n"a\nb",1\nc\n', r"line 4: expected 2 fields as in the header, found 1"),
        ("a.csv", "text,label\na,\n", r"line 2: the label \(column \"label\"\) is empty"),
        ("a.csv", "text,label\na,nan\n", r"line 2: the label \(column \"label\"\) is empty: 'nan'"),
        ("a.csv", "text,label\n  ,1\n", r"line 2: the text \(column \"text\"\) is empty"),
        ("a.csv", 'text,label\n"a" b,1\n', r"line 2: not valid CSV"),
        ("a.csv", "text,text\na,1\n", r'names the column "text" twice'),
        ("a.csv", "text,label\n", r"has no rows"),
        (
            "a.csv",
            b"text,label\na,1\ncaf\xe9,1\n",
            r"line 3: expected UTF-8 .* 0xe9 at byte offset 18; .*iconv",
        ),
        ("a.csv", b"\xff\xfet\x00e\x00\n\x00", r"iconv -f UTF-16"),
        ("a.csv", "", r"is empty"),
        ("a.csv.gz", "", r"is empty"),
        ("a.tsv", "text\tlabel\nb\n", r"line 2: expected 2 fields"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": \n', r"line 2: not valid JSON"),
        ("a.jsonl", "[1]\n", r"line 1: expected a JSON object"),
        ("a.jsonl", '{"text": "a", "label": NaN}\n', r"line 1: the label .* is empty: nothing"),
        (
            "a.jsonl",
            '{"text": 5, "label": 1}\n',
            r"line 1: expected text in column \"text\", found 5 \(int\)",
        ),
        ("a.jsonl", '{"text": "a", "label": {}}\n', r"line 1: expected a label"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": "x"}\n', r"row 2: .* 'x' is text"),
        ("a.json", '{"text": \n"a"}\n', r"line 1: not valid JSON"),
        ("a.json", "[{]", r"is not valid JSON"),
        ("a.parquet", "no", r"not a parquet file"),
        ("a.xlsx", "no", r"expected a file that ends in"),
    ],
)
def test_bad_files_say_where_and_what(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        data.read_records(_write(tmp_path / name, text), **LABELLED)


def test_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(os.urandom(4000).hex().encode())[:1000])
    with pytest.raises(DataError, match="damaged or not gzip"):
        list(data.documents(path))
    path.write_bytes(b"plain")
    with pytest.raises(DataError, match="damaged or not gzip"):
        list(data.documents(path))


def test_missing_paths(tmp_path: Path) -> None:
    _write(tmp_path / "reviews.csv", "text\na\n")
    with pytest.raises(DataError, match=r'no file or folder .*Did you mean "reviews\.csv"'):
        data.read_records(tmp_path / "reviws.csv", **LABELLED)
    with pytest.raises(DataError, match=r"no file or folder"):
        data.fingerprint(f"{tmp_path}/nothing/reviews.csv")
    with pytest.raises(DataError, match=r"not a file or folder here, nor a Hub data set"):
        data.read_records("surely-no-such-set-" + "x" * 20, **LABELLED)
    (tmp_path / "only").mkdir()
    with pytest.raises(DataError, match=r"holds no file at all"):
        data.read_records(tmp_path / "only", **LABELLED)
    with pytest.raises(DataError, match=r"has no split"):
        data.read_records(f"{tmp_path / 'reviews.csv'}:test", **LABELLED)


def test_streaming_keeps_every_row(tmp_path: Path) -> None:
    raw = b'text,label\na,1\nb\ncaf\xe9,1\n"c" d,1\n"e\nf",1\n,1\ng,1\n'
    found = list(data.stream_records(_write(tmp_path / "a.csv", raw), **LABELLED))
    rows = [(r["_row"] if r else None, e.row if e else None) for r, e in found]
    assert rows == [(2, None), (None, 3), (None, 4), (None, 5), (6, None), (None, 8), (9, None)]
    assert found[4][0] is not None
    assert found[4][0]["text"] == "e\nf"
    again = pickle.loads(pickle.dumps(found[1][1]))
    assert str(again) == str(found[1][1])
    lines = list(data.stream_records(_write(tmp_path / "a.txt", "a\n\nb"), roles=data.TEXT_COLUMNS, required=["text"]))
    assert [r["text"] if r else None for r, _ in lines] == ["a", None, "b"]


@pytest.mark.parametrize("raw", [b'\n{"text": "a"}\n{"text": \n{"text": "b"}\n', b"\na\n\xe9\nb\n"])
def test_stdin(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    found = [r["text"] if r else None for r, _ in data.stream_records("-", roles=data.TEXT_COLUMNS, required=["text"])]
    assert found == (["a", None, "b"] if b"{" in raw else [None, "a", None, "b"])


def test_conll(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- O\n\n# id = 1\nEU NNP B-ORG\n# : O\n. . O\n\n\nAnn NNP B-PER\n"
    for name in ("a.conll", "a.bio.gz", "a.txt"):
        records = data.read_records(_write(tmp_path / name, text), **TAGGED)
        assert records["tokens"] == [["EU", "#", "."], ["Ann"]]
        assert records["tags"] == [["B-ORG", "O", "O"], ["B-PER"]]
        assert records["_row"] == [4, 9]
    with pytest.raises(DataError, match=r"line 2: expected 2 columns as in the sentence's first line, found 1"):
        data.read_records(_write(tmp_path / "b.conll", "EU B-ORG\nrejects\n"), **TAGGED)
    with pytest.raises(DataError, match=r"line 1: the tags .* is empty"):
        data.read_records(_write(tmp_path / "b.conll", "EU\nrejects\n"), **TAGGED)
    with pytest.raises(DataError, match=r"row 1: expected a tag for each token, found 2 tokens and 1 tags"):
        data.read_records([{"tokens": ["a", "b"], "tags": ["O"]}], **TAGGED)
    assert data.read_records([{"tokens": "a b", "tags": "O O"}], **TAGGED)["tags"] == [["O", "O"]]
    with pytest.raises(DataError, match=r"expected a list of strings"):
        data.read_records([{"tokens": "['a', 'b']", "tags": "O O"}], **TAGGED)


def test_folders(tmp_path: Path) -> None:
    for name, text in (
        ("b/z.txt", "3\n"),
        ("b/a.txt.gz", "2\n"),
        ("a.txt", "1\n"),
        (".c/x.txt", "0\n"),
        ("r.md", "0"),
    ):
        _write(tmp_path / name, text)
    assert [d.text for d in data.documents(tmp_path)] == ["1", "2", "3"]
    sets = tmp_path / "sets"
    for name, value in (("train-00000-of-00001.jsonl", "a"), ("test.jsonl", "b"), ("validation.jsonl", "c")):
        _write(sets / "data" / name, json.dumps({"text": value, "label": "x"}))
    for split, value in (("train", "a"), ("test", "b"), ("valid", "c"), ("dev", "c")):
        assert data.read_records(f"{sets}:{split}", **LABELLED)["text"] == [value]
    assert len(data.read_records(f"{sets}:all", **LABELLED)) == 3
    with pytest.raises(DataError, match=r'several splits \(test, train, valid\); name one, as ".*:train"'):
        data.read_records(sets, **LABELLED)
    with pytest.raises(DataError, match=r'no split "tets".*Did you mean "test"'):
        data.read_records(f"{sets}:tets", **LABELLED)


def test_folder_of_classes(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("pos", "neg"):
            for number in range(2):
                _write(tmp_path / split / label / f"{number}.txt", f"{split} {label}\n{number}\n")
    for source in (f"{tmp_path}:train", tmp_path / "train"):
        records = data.read_records(source, **LABELLED)
        assert records["label"] == ["neg", "neg", "pos", "pos"]
        assert records["text"][0] == "train neg\n0"
    assert len(list(data.documents(tmp_path / "train"))) == 8
    assert next(data.documents(tmp_path / "train", boundary="file")).text == "train neg\n0"


def test_document_boundaries(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.txt", "\na\nb\n \n\nc\n")
    line = data.documents(path)
    assert [(d.text, d.row) for d in line] == [("a", 2), ("b", 3), ("c", 6)]
    assert line.counts.num_empty == 3
    assert [(d.text, d.row) for d in data.documents(path, boundary="blank")] == [("a\nb", 2), ("c", 6)]
    assert [(d.text, d.row) for d in data.documents(path, boundary="file")] == [("a\nb\n \n\nc", 2)]
    with pytest.raises(ConfigError, match="no boundary"):
        data.documents(path, boundary="page")
    with pytest.raises(ConfigError, match="each row is a document"):
        next(data.documents(["a"], boundary="blank"))
    rows = data.documents([{"text": "a"}, {"text": ""}, {"text": None}, {"text": "b"}])
    assert [d.text for d in rows] == ["a", "b"]
    assert rows.counts.num_empty == 2
    with pytest.raises(DataError, match="no text"):
        list(data.documents(_write(tmp_path / "b.txt", "\n\n")))
    with pytest.raises(DataError, match=r"line 2: expected UTF-8"):
        list(data.documents(_write(tmp_path / "c.txt", b"a\n\xff\n")))


def test_documents_use_constant_memory(tmp_path: Path) -> None:
    peaks = []
    for size in (1_000, 10_000):
        path = _write(tmp_path / f"{size}.txt.gz", "some words of text in a line\n" * size * 10)
        tracemalloc.start()
        assert sum(1 for _ in data.documents(path)) == size * 10
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 100_000


def test_fingerprint(tmp_path: Path) -> None:
    path = _write(tmp_path / "x" / "a.jsonl", json.dumps(ROWS[0]))
    same = _write(tmp_path / "y" / "b.jsonl", json.dumps(ROWS[0]))
    assert data.fingerprint(path) == data.fingerprint(str(same))
    assert data.fingerprint(path) != data.fingerprint(_write(tmp_path / "c.jsonl", json.dumps(ROWS[1])))
    assert data.fingerprint(tmp_path / "x") != data.fingerprint(tmp_path / "y")
    assert data.fingerprint(ROWS) == data.fingerprint([dict(r) for r in ROWS]) != data.fingerprint(ROWS[:1])
    assert data.fingerprint(pd.DataFrame(ROWS)) != data.fingerprint(pd.DataFrame(ROWS[:1]))


def _dataset(labels: list[object], groups: list[int] | None = None) -> datasets.Dataset:
    columns = {"n": list(range(len(labels))), "label": labels}
    return datasets.Dataset.from_dict(columns | ({"group": groups} if groups else {}))


def test_split_is_stratified_and_deterministic() -> None:
    labels: list[object] = ["a"] * 60 + ["b"] * 30 + ["c"] * 9 + ["d"]
    train, valid = data.split(_dataset(labels), rate=0.1, seed=1, label="label")
    assert Counter(valid["label"]) == {"a": 6, "b": 3, "c": 1}
    assert sorted([*train["n"], *valid["n"]]) == list(range(100))
    assert train["n"] == sorted(train["n"])
    again = data.split(_dataset(labels), rate=0.1, seed=1, label="label")[1]
    other = data.split(_dataset(labels), rate=0.1, seed=2, label="label")[1]
    assert list(again["n"]) == list(valid["n"]) != list(other["n"])


@pytest.mark.parametrize(
    "labels", [["a", "b"], ["a", "a"], [0.5, 1.5, 2.5, 3.5], list("abcdefghij") * 3, [["x"], ["y"]]]
)
def test_split_of_few_rows(labels: list[object]) -> None:
    train, valid = data.split(_dataset(labels), rate=0.1, seed=0, label="label")
    assert len(valid) >= 1
    assert len(train) + len(valid) == len(labels)
    if len(labels) > 20:
        assert set(train["label"]) == set(labels)


@pytest.mark.parametrize("label", [None, "label"])
def test_split_by_group(label: str | None) -> None:
    groups = [n // 5 for n in range(100)]
    records = _dataset(["a" if n % 3 else "b" for n in range(100)], groups)
    train, valid = data.split(records, rate=0.2, seed=3, label=label, group="group")
    assert not set(train["group"]) & set(valid["group"])
    assert len(valid) == 20
    assert list(data.split(records, rate=0.2, seed=3, label=label, group="group")[1]["n"]) == list(valid["n"])
    with pytest.raises(DataError, match="same group"):
        data.split(_dataset(["a", "b"], [1, 1]), rate=0.2, seed=3, label=label, group="group")


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("label", [None, "label"])
def test_folds_hold_every_row_out_once(label: str | None, grouped: bool) -> None:
    groups = [n // 4 for n in range(60)] if grouped else None
    records = _dataset(["a" if n % 3 else "b" for n in range(60)], groups)
    options = {"num": 5, "label": label, "group": "group" if grouped else None}
    parts = splits.folds(records, seed=3, **options)
    assert sorted(n for part in parts for n in part) == list(range(60))
    assert len(parts) == 5
    if label and not grouped:
        assert all(Counter(records[part]["label"]) == {"a": 8, "b": 4} for part in parts)
    if groups:
        homes = [set(records[part]["group"]) for part in parts]
        assert sum(map(len, homes)) == 15
    again = splits.folds(records, seed=3, **options)
    other = splits.folds(records, seed=4, **options)
    assert [list(p) for p in again] == [list(p) for p in parts] != [list(p) for p in other]


def test_folds_of_rare_classes_and_of_too_few_rows() -> None:
    rare = _dataset([*"aabbccddee", *"aabbccddee"])
    assert len(splits.folds(rare, num=5, seed=0, label="label")) == 5
    assert len(splits.folds(_dataset([0.5, 1.5, 2.5, 3.5]), num=2, seed=0, label="label")) == 2
    with pytest.raises(DataError, match="at least 5 records, found 2; use fewer folds"):
        splits.folds(_dataset(["a", "b"]), num=5, seed=0)
    with pytest.raises(DataError, match="at least 3 groups, found 2"):
        splits.folds(_dataset(["a", "b"] * 3, [1, 2] * 3), num=3, seed=0, group="group")


def test_split_refuses() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        data.split(_dataset(["a", "b"]), rate=1.0, seed=0)
    with pytest.raises(DataError, match="cannot be split"):
        data.split(_dataset(["a"]), rate=0.5, seed=0)


def test_numpy_and_pandas_values() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": np.array([1, 2], np.int8)})
    assert data.read_records(frame, **LABELLED)["label"] == [1, 2]
    frame["label"] = [1.0, np.nan]
    with pytest.raises(DataError, match=r"the DataFrame, row 2: the label .* is empty"):
        data.read_records(frame, **LABELLED)
    frame["label"] = pd.array([1, None], dtype="Int64")
    with pytest.raises(DataError, match=r"the DataFrame, row 2"):
        data.read_records(frame, **LABELLED)


def test_rows_without_any_role_are_still_rows() -> None:
    for source in (
        pd.DataFrame({"x": [1, 2]}),
        datasets.Dataset.from_dict({"x": [1, 2]}),
        [{"x": 1}, {"x": 2}],
    ):
        assert len(list(data.stream_records(source, roles={"text": ("text",)}))) == 2


def test_arrays_that_may_be_one_record_or_many_are_refused() -> None:
    roles = {"image": ["image"], "label": ["label"]}
    with pytest.raises(DataError, match=r"needs? one length, found \{'image': 3, 'label': 2\}"):
        data.read_records({"image": np.zeros((3, 8, 8)), "label": [0, 1]}, roles=roles)
    with pytest.raises(DataError, match=r"shape \(9, 9, 3\) may be one picture or 9 grey ones; give \[array\]"):
        data.read_records(np.zeros((9, 9, 3), np.uint8), roles={"image": ["image"]})
    with pytest.raises(DataError, match="One recording as an array needs its rate"):
        data.read_records(np.zeros(100, np.int16), roles={"audio": ["audio"]})


def test_many_chunks() -> None:
    rows = [{"text": str(n), "label": n if n else 0.5} for n in range(25_000)]
    records = data.read_records(rows, **LABELLED)
    assert len(records) == 25_000
    assert records["_row"][-1] == 25_000
    assert records[24_999]["label"] == 24_999


def test_real_data(shared: Path) -> None:
    for name, num_rows in (("sst2", 6920), ("trec6", 4952), ("rte123", 1567)):
        assert len(data.read_records(shared / name / "train.jsonl", **LABELLED)) == num_rows
    assert "text_pair" in data.read_records(f"{shared / 'rte123'}:valid", **LABELLED).column_names
    scores = data.read_records(shared / "sick" / "valid.jsonl", columns={"label": "score"}, **LABELLED)
    assert isinstance(scores[0]["label"], float)
    assert len(data.read_records(f"{shared / 'conll2003'}:train", **TAGGED)) == 14041
    assert sum(1 for _ in data.documents(f"{shared / 'imdb_unlabelled'}:train")) == 48505
    assert sum(1 for _ in data.documents(shared / "brown", boundary="blank")) == 500
