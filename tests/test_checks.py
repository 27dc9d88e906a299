from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from pretune.checks import CheckReport, check
from pretune.errors import ConfigError, DataError
from pretune.tag_checks import TagCheck


def _rows(*pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in pairs]


def _printed(report: CheckReport) -> str:
    out = io.StringIO()
    report.render(Console(file=out, width=120))
    return out.getvalue()


GOOD = _rows(*((f"text number {n}", "ab"[n % 2]) for n in range(20)))


def test_good_data_has_no_problems() -> None:
    report = check(GOOD, task="classification")
    assert (report.status, report.problems, report.warnings) == (0, (), ())
    assert report.facts["rows"] == 20
    assert report.facts["labels"] == {"a": 10, "b": 10}
    assert report.facts["words"]["median"] == 3
    json.dumps(report.facts)
    assert "No problems found" in _printed(report)


def test_bad_rows_are_all_counted_and_ten_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\na,1\nb,2\ncaf\xe9,1\n,1\n" + b"x,y,z\n" * 23)
    report = check(path, task="classification")
    assert report.status == 2
    assert report.facts["bad rows"] == 25
    assert len(report.problems) == 1
    problem = report.problems[0]
    assert problem.startswith("25 of 27 rows cannot be used:")
    assert "a.csv, line 4: expected UTF-8" in problem
    assert "a.csv, line 5: the text" in problem
    assert problem.count("a.csv, line") == 10
    assert "and 15 more" in problem
    assert "a.csv, line 4" in _printed(report)


def test_one_class_and_no_rows() -> None:
    assert "All rows have the label 'a'" in check(_rows(("x", "a"), ("y", "a")), task="classification").problems[0]
    assert check(_rows(("x", None)), task="classification").problems[-1] == "No row is usable."
    with pytest.raises(DataError, match="no rows"):
        check([], task="classification")


def test_duplicates_and_conflicts() -> None:
    rows = [
        *GOOD,
        *_rows(("Same, text!", "a"), ("same text", "b"), ("same text", "b"), ("!!!", "a"), ("???", "b")),
    ]
    report = check(rows, task="classification")
    assert report.facts["exact duplicates"] == 1
    assert report.facts["near-duplicates (same words)"] == 1
    assert report.facts["conflicting labels"] == 3
    assert report.status == 0
    assert "1 texts repeat an earlier one" in report.warnings[0]
    assert "the list, row 21" in report.warnings[1]


def test_pairs_are_compared_whole() -> None:
    rows = [{"premise": "a", "hypothesis": h, "label": label} for h, label in (("x", 0), ("y", 1), ("x", 1))]
    report = check(rows, task="classification")
    assert report.facts["exact duplicates"] == 1
    assert report.facts["conflicting labels"] == 2


def test_test_data_overlap_and_unknown_labels() -> None:
    test = _rows(("text number 0", "a"), ("Text number 1.", "b"), ("new", "c"), ("", "a"))
    report = check(GOOD, task="classification", test=test)
    assert report.facts["test rows also in training"] == 1
    assert report.facts["test rows with the same words as in training"] == 2
    assert any("2 of 3 test texts" in w for w in report.warnings)
    assert any("labels that training data has not: c" in p for p in report.problems)
    assert any(p.startswith("1 of 4 test rows cannot be used") for p in report.problems)


def test_label_warnings() -> None:
    odd = ("Yes ", "no", "caf\u00e9", "cafe\u0301", "1", "1.0", "caf\u00e9 ")
    rows = _rows(*((str(n), "yes") for n in range(400)), *((f"x{k}", label) for k, label in enumerate(odd)))
    warnings = " ".join(check(rows, task="classification").warnings)
    assert '98.3% of the rows are "yes"' in warnings
    assert "fewer than 5 rows" in warnings
    for same in ("['yes', 'Yes ']", "['1', '1.0']", str(["caf\u00e9", "cafe\u0301", "café "])):
        assert f"differ only by how they are written count as different: {same}" in warnings
    unique = _rows(*((str(n), f"l{n}") for n in range(10)))
    assert any("is this column the label?" in w for w in check(unique, task="classification").warnings)


def test_multi_label_counts_each() -> None:
    report = check(_rows(("x", ["a", "b"]), ("y", ["b"])), task="classification")
    assert report.facts["labels"] == {"b": 2, "a": 1}


def test_regression() -> None:
    assert check(_rows(("x", 1.5), ("y", 2), ("z", 1.0)), task="regression").facts["label mean"] == 1.5
    assert check(_rows(("x", "1.5"), ("y", "2")), task="regression").status == 0
    assert "row 2: the label '2.5' is text" in check(_rows(("x", 1.5), ("y", "2.5")), task="regression").problems[0]
    bad = check(_rows(("x", "neutral"), ("y", "inf")), task="regression")
    assert bad.problems[0].startswith("2 of 2 rows cannot be used")
    assert "--label_column" in bad.problems[0]
    assert "All labels are 3" in check(_rows(("x", 3), ("y", 3.0)), task="regression").problems[0]
    named = check(
        [{"text": "x", "score": 1, "label": "n"}, {"text": "y", "score": 2, "label": "n"}],
        task="regression",
        columns={"label": "score"},
    )
    assert named.status == 0


def _tagged(*rows: str) -> list[dict[str, Any]]:
    return [{"tokens": [f"w{i}" for i in range(len(r.split()))], "tags": r.split()} for r in rows]


@pytest.mark.parametrize(
    ("rows", "scheme", "problem"),
    [
        (["O B-PER I-PER O", "B-PER B-PER"], "IOB2", None),
        (["O I-PER I-PER B-PER I-PER", "I-LOC O"], "IOB1", None),
        (["O S-PER B-LOC I-LOC E-LOC"], "BIOES", None),
        (["O U-PER B-LOC I-LOC L-LOC"], "BIOES", None),
        (["NN VB DT"], "plain", None),
        (["O B-PER I-PER", "B-LOC O", "O I-PER"], "IOB2", 'row 3, word 2: "I-PER" after "O"'),
        (["B-PER I-LOC", "B-LOC O"], "IOB2", 'row 1, word 2: "I-LOC" after "B-PER"'),
        (["B-PER O", "S-PER O"], "BIOES", 'row 1, word 2: "O" after "B-PER"'),
        (["B-PER", "S-PER"], "BIOES", 'row 1, word 2: "O" after "B-PER"'),
        (["O B-PER", "O LOC"], "IOB2", 'row 2: "LOC"'),
        (["O O"], "plain", "All words have the same tag (O)"),
    ],
)
def test_tags(rows: list[str], scheme: str, problem: str | None) -> None:
    report = check(_tagged(*rows), task="tagging")
    assert report.facts["tag scheme"] == scheme
    assert report.status == (2 if problem else 0)
    assert problem is None or problem in "".join(report.problems)


def test_entities_are_counted_alike_in_all_schemes() -> None:
    for row in ("B-A I-A B-A O B-B", "I-A I-A B-A O I-B", "B-A E-A S-A O S-B"):
        found = TagCheck()
        found.see(row.split(), "here")
        assert dict(found.entities) == {"A": 2, "B": 1}


def test_tag_lengths_and_unknown_types() -> None:
    bad = [*_tagged("O B-PER"), {"tokens": ["a", "b"], "tags": ["O"]}]
    assert "row 2: expected a tag for each token, found 2 tokens and 1 tags" in check(bad, task="tagging").problems[0]
    report = check(_tagged("O B-PER", "B-LOC O"), task="tagging", test=_tagged("B-ORG O O"))
    assert "labels that training data has not: ORG" in report.problems[0]


def test_corpus(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one line .\nits second line .\n\n" * 10 + "[red]another[/] one .\n")
    (tmp_path / "notes.pdf").write_text("x")
    report = check(tmp_path)
    assert report.facts["documents"] == 21
    assert report.facts["empty lines"] == 10
    assert report.facts["exact duplicates"] == 18
    assert report.facts["boundary that would suit"] == "blank"
    assert report.facts["files of other formats, not read"] == "notes.pdf"
    assert any('"blank" would suit' in w for w in report.warnings)
    assert "blank" in _printed(report)
    assert check(path, boundary="blank").facts["documents"] == 11
    path.write_bytes(b"a\n\xff\nb\n\xfe\n")
    bad = check(path)
    assert bad.status == 2
    assert bad.facts["bad rows"] == 2
    assert "a.txt, line 2: expected UTF-8" in bad.problems[0]


def test_folder_of_wrapped_files_suits_file(tmp_path: Path) -> None:
    for n in range(6):
        (tmp_path / f"{n}.txt").write_text(f"this is file {n}\nwrapped early\n")
    assert check(tmp_path).facts["boundary that would suit"] == "file"


def test_options_without_effect_are_errors() -> None:
    with pytest.raises(ConfigError, match="--test"):
        check(GOOD, test=GOOD)
    with pytest.raises(ConfigError, match="--boundary"):
        check(GOOD, task="classification", boundary="blank")
    with pytest.raises(ConfigError, match="--label_column"):
        check(GOOD, columns={"label": "label"})
    with pytest.raises(ConfigError, match="no task"):
        check(GOOD, task="clasification")


def test_real_data(shared: Path) -> None:
    for name in ("sst2", "trec6", "rte123"):
        report = check(f"{shared / name}:train", task="classification", test=f"{shared / name}:test")
        assert report.status == 0, report.problems
    assert check(f"{shared / 'sick'}:train", task="regression").status == 2
    assert check(f"{shared / 'sick'}:train", task="regression", columns={"label": "score"}).status == 0
    conll = check(f"{shared / 'conll2003'}:valid", task="tagging")
    assert (conll.status, conll.facts["tag scheme"]) == (0, "IOB2")
    assert check(shared / "brown").facts["boundary that would suit"] == "blank"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"title": "a", "body": "b"}, 'read from "title" and not from "body"; --text_column and'),
        ({"sentence": "a", "question": "b"}, 'read from "sentence" and not from "question"'),
        ({"text": "a", "text_b": "b"}, 'read from "text" and not from "text_b"'),
        ({"text": "a", "title": "b"}, None),
        ({"sentence1": "a", "sentence2": "b"}, None),
    ],
)
def test_texts_that_are_not_read_are_named(row: dict[str, str], said: str | None, tmp_path: Path) -> None:
    rows = [row | {"label": str(k % 2)} for k in range(12)]
    found = [w for w in check(rows, task="classification").warnings if "is read from" in w]
    assert [said in w for w in found] == ([] if said is None else [True])
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    corpus = [w for w in check(str(tmp_path / "a.csv")).warnings if "is read from" in w]
    assert len(corpus) == len({"text_b", "body", "question", "sentence2"} & row.keys())
