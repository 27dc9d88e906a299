"""What is in a set of sequences, and each thing that can be wrong with it, is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pretune import checks
from pretune.errors import ConfigError
from pretune.sequence_checks import check_sequences

PROTEIN, DNA = "ACDEFGHIKLMNPQRSTVWY", "ACGT"


def random(seed: int, letters: str = DNA, length: int = 60) -> str:
    return "".join(np.random.default_rng(seed).choice(list(letters), length))


def turned(sequence: str) -> str:
    return sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))


def table(path: Path, sequences: list[str], **columns: Any) -> Path:
    frame = pd.DataFrame({"id": [f"s{i}" for i in range(len(sequences))], "sequence": sequences, **columns})
    frame.to_csv(path, index=False)
    return path


def twelve(path: Path, start: int = 0, letters: str = DNA, **columns: Any) -> Path:
    labels = {"label": list("ab") * 6, **columns}
    return table(path, [random(start + i, letters, 60 + i) for i in range(12)], **labels)


def checked(data: Any, task: str | None = "classification", test: Any = None, modality: str = "dna", **columns: str):
    return check_sequences(data, task, test, columns, modality)


def said(messages) -> str:
    return "\n".join(messages)


def test_good_data_has_no_problems(tmp_path):
    report = checked(twelve(tmp_path / "a.csv"))
    assert (report.status, report.problems, report.warnings) == (0, (), ())
    facts = report.facts
    assert (facts["sequences"], facts["sequences that cannot be read"]) == (12, 0)
    assert facts["clusters (50% of the 12-mers in common)"] == 12
    assert facts["total letters"] == sum(range(60, 72))
    assert [facts["letters"][k] for k in ("least", "most")] == [60, 71]
    assert facts["labels"] == {"a": 6, "b": 6}


def test_composition(tmp_path):
    facts = checked(table(tmp_path / "a.csv", ["ACGTacgtNN-.", "GGCCGGCC"]), None).facts
    assert facts["GC"] == "75.0%"
    assert facts["lower-case (soft-masked) letters"] == "20.0%"
    assert facts["ambiguity codes (N R Y S W K M B D H V)"] == "2 (10.00%)"
    assert facts["gaps (- .)"] == 2
    assert list(facts["letter"].items())[:2] == [("C", 6), ("G", 6)]


@pytest.mark.parametrize(
    ("modality", "sequence", "found"),
    [
        ("dna", "ACGTELI", "found 'E' at position 5 (and 2 more)"),
        ("dna", "AC GT", "found white space at position 3"),
        ("protein", "MKV1", "found '1' at position 4"),
        ("protein", "mké", "found 'é' at position 3"),
    ],
)
def test_illegal_letters_are_named(modality, sequence, found, tmp_path):
    good = random(0, DNA if modality == "dna" else PROTEIN)
    report = checked(table(tmp_path / "a.csv", [good, sequence]), None, modality=modality)
    assert report.status == 2
    assert "1 of 2 sequences cannot be used" in report.problems[0]
    assert 'a.csv, row 3: "s1": expected letters of' in report.problems[0]
    assert found in report.problems[0]


def test_damaged_records_of_fasta(tmp_path):
    (tmp_path / "a.fa").write_text(">x\nACGT\n>y\n>z\nACGTT\n")
    report = checked(tmp_path / "a.fa", None)
    assert 'a.fa, record 2: the sequence of "y" is empty' in report.problems[0]
    assert report.facts["sequences"] == 2


def test_repeats_on_both_strands(tmp_path):
    sequences = [random(i) for i in range(6)]
    data = table(tmp_path / "a.csv", [*sequences, turned(sequences[0]), sequences[1].lower()], label=list("abababbb"))
    report = checked(data)
    assert report.facts["sequences that repeat an earlier one"] == 2
    assert '"s6" (' in report.warnings[0]
    assert "1 sequences have the letters of another with a different label" in report.warnings[1]
    one_strand = checked(data, None, modality="protein")
    assert one_strand.facts["sequences that repeat an earlier one"] == 1


def test_proteins_that_look_like_something_else(tmp_path):
    sequences = [random(0, PROTEIN), "MK*VLA", "MKVLA*", random(1, DNA), "MKV" + "X" * 50]
    warnings = said(checked(table(tmp_path / "a.csv", sequences), None, modality="protein").warnings)
    assert "1 of 5 sequences have a stop (*) before their end" in warnings
    assert "1 of 5 sequences have letters of DNA alone" in warnings
    assert "of the letters are ambiguity codes" in warnings


def test_values_and_one_class(tmp_path):
    values = twelve(tmp_path / "a.csv", label=[i / 2 for i in range(12)])
    report = checked(values, "regression")
    assert (report.facts["label mean"], report.facts["greatest label"]) == (2.75, 5.5)
    assert "expected a number as label, found 'a'" in said(checked(twelve(tmp_path / "b.csv"), "regression").problems)
    assert "All rows have the label 'a'" in said(checked(twelve(tmp_path / "c.csv", label=["a"] * 12)).problems)


def test_tags_of_residues(tmp_path):
    tags = ["H" * (30 + i) + "C" * 30 for i in range(12)]
    data = twelve(tmp_path / "a.csv", letters=PROTEIN, ss=tags)
    report = checked(data, "tagging", modality="protein", tags="ss")
    assert report.status == 0
    assert report.facts["tags"] == {"H": 426, "C": 360}
    tags[3] = tags[3][1:]
    other = twelve(tmp_path / "b.csv", 50, PROTEIN, ss=[t.replace("C", "E") for t in tags])
    report = checked(data, "tagging", other, "protein", tags="ss")
    assert 'row 5: "s3": expected a tag for each of the 63 letters, found 62 tags' in said(report.problems)
    assert "Test data has labels that training data has not: E." in report.problems


def test_overlap_with_test_data(tmp_path):
    train = [random(i, DNA, 200) for i in range(12)]
    test = [train[0], turned(train[1]), train[2][:150], turned(train[3])[20:], *(random(50 + i) for i in range(4))]
    data = table(tmp_path / "a.csv", train, label=list("ab") * 6)
    report = checked(data, test=table(tmp_path / "b.csv", test, label=list("abcb") * 2))
    assert report.facts["test sequences"] == 8
    assert report.facts["test sequences also in training"] == 2
    assert report.facts["test sequences near one in training (50% of the 12-mers in common)"] == 2
    assert "2 of 8 test sequences are also in the training data" in said(report.warnings)
    assert "2 of 8 test sequences are near one in the training data" in said(report.warnings)
    assert "Test data has labels that training data has not: c." in said(report.problems)


def test_families_within_training_data(tmp_path):
    sequences = [random(i // 2, PROTEIN, 100 + i % 2) for i in range(12)]
    data = table(tmp_path / "a.csv", sequences, label=list("ab") * 6)
    report = checked(data, modality="protein")
    assert report.facts["clusters (30% of the 5-mers in common)"] == 6
    assert "12 of 12 sequences are near another" in said(report.warnings)
    assert report.status == 0


def test_long_contigs_are_not_clustered(tmp_path, monkeypatch):
    monkeypatch.setattr("pretune.sequence_checks._LONG", 65)
    facts = checked(twelve(tmp_path / "a.csv"), None).facts
    assert facts["sequences above 65 letters, not clustered"] == 6


def test_check_dispatches_by_modality(tmp_path):
    pytest.importorskip("pretune.modalities.dna")
    data = twelve(tmp_path / "a.csv")
    assert checks.check(data, task="classification", modality="dna").facts["GC"]
    assert checks.check(data, modality="protein").warnings
    with pytest.raises(ConfigError, match="--boundary is for text"):
        checks.check(data, modality="dna", boundary="file")


def test_real_data(shared: Path):
    if not (shared / "uci_splice").is_dir():
        pytest.skip("no uci_splice here")
    folder = shared / "uci_splice"
    report = checked(f"{folder}:train", test=f"{folder}:test")
    assert report.status == 0
    assert report.facts["sequences"] == 2223
    assert report.facts["test sequences also in training"] == 0
    folder = shared / "cb513"
    tagged = checked(f"{folder}:train", "tagging", f"{folder}:test", "protein", tags="ss3")
    assert set(tagged.facts["tags"]) == {"H", "E", "C"}
    assert tagged.problems == ()
