"""Files of sequences give the same records whatever their format; damaged records are named, none is skipped."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pretune import data
from pretune.errors import DataError
from pretune.sequence_reading import sequence_table

ROLES = {"sequence": data.PROTEIN_COLUMNS["sequence"]}
LABELLED = {**ROLES, "label": data.LABEL_COLUMNS}
NAMES, TEXTS, LABELS = ["x", "y", "z"], ["ACGTACGT", "ggccNNaa", "TTTT"], ["coding", "other", "coding"]

GENBANK = """LOCUS       {name}   {count} bp    DNA     linear   BCT 01-JAN-2020
DEFINITION  A gene
            of a bacterium.
ACCESSION   {name}
VERSION     {name}.1
SOURCE      Escherichia coli
  ORGANISM  Escherichia coli
            Bacteria; Proteobacteria.
FEATURES             Location/Qualifiers
     source          1..{count}
                     /organism="Escherichia coli"
ORIGIN
        1 {spaced}
//
"""


def read(source, roles=ROLES, required=None, **columns):
    rows = data.read_records(source, roles=roles, required=tuple(roles) if required is None else required, **columns)
    return [dict(r) for r in rows]


def texts(source):
    return [r["sequence"] for r in read(source)]


def rows(path: Path):
    return [row for _, row in sequence_table(path).rows(None)]


def fasta(names=NAMES, sequences=TEXTS, labels=LABELS) -> str:
    trio = zip(names, sequences, labels, strict=True)
    return "".join(f">{n} a description label={y}\n{s[:3]}\n{s[3:]}\n\n" for n, s, y in trio)


def genbank(*sequences: str) -> str:
    every = enumerate(sequences, 1)
    return "".join(GENBANK.format(name=f"AB{i}", count=len(s), spaced=f"{s[:4]} {s[4:]}") for i, s in every)


def atom(number: int, name: str, residue: str, chain: str, at: int, place, record: str = "ATOM") -> str:
    x, y, z = place
    return (
        f"{record:<6}{number:>5}  {name:<3} {residue:>3} {chain}{at:>4}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           {name[0]}"
    )


def write_pdb(path: Path, chains: dict[str, list[str]], *, models: int = 1) -> Path:
    """Residues 3.3 Angstrom apart, so that each is bound to the next; glycine has no CB."""
    found = []
    for model in range(models):
        found += [f"MODEL     {model + 1:>4}"] * (models > 1)
        for chain, residues in chains.items():
            for i, residue in enumerate(residues, 1):
                record = "HETATM" if residue in ("MSE", "HOH", "GLU") else "ATOM"
                far = 90 if residue == "GLU" else 0  # a ligand
                atoms = {"N": 0.0, "CA": 1.0, "C": 2.0} | ({} if residue == "GLY" else {"CB": 1.5})
                for name, x in {"O": 0.0}.items() if residue == "HOH" else atoms.items():
                    place = (3.3 * i + x, float(name == "CB") + far, 10.0 * model)
                    found.append(atom(len(found) + 1, name, residue, chain, i, place, record))
        found += ["ENDMDL"] * (models > 1)
    path.write_text("\n".join([*found, "END", ""]))
    return path


@pytest.mark.parametrize("ending", [".fasta", ".fa", ".fna", ".faa", ".ffn", ".fas", ".fasta.gz"])
def test_fasta(ending, tmp_path):
    path = tmp_path / f"seqs{ending}"
    content = fasta().encode()
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    found = read(path, LABELLED)
    assert [r["sequence"] for r in found] == TEXTS
    assert [r["label"] for r in found] == LABELS
    assert [r["_row"] for r in found] == [1, 2, 3]
    assert texts(tmp_path) == TEXTS
    named = read(path, columns={"name": "id"})
    assert [r["name"] for r in named] == NAMES


def test_columns_of_a_header(tmp_path):
    path = tmp_path / "a.fa"
    path.write_text(
        "; a comment\n>sp|P1|X_HUMAN Some protein OS=Homo sapiens OX=9606\nMK\n"
        ">b [gene=dnaA] [protein=starts, it does]\nMK\n>c|label=coding;k=2 x\nMK\n>d\r\nM\r\nK\r\n"
    )
    uniprot, ncbi, plain, bare = rows(path)
    assert (uniprot["id"], uniprot["OS"], uniprot["OX"]) == ("sp|P1|X_HUMAN", "Homo sapiens", "9606")
    assert uniprot["description"] == "Some protein OS=Homo sapiens OX=9606"
    assert (ncbi["gene"], ncbi["protein"]) == ("dnaA", "starts, it does")
    assert plain["label"] == "coding"
    assert bare == {"id": "d", "description": "", "sequence": "MK"}


def test_damaged_fasta_names_the_record(tmp_path):
    path = tmp_path / "a.fa"
    path.write_bytes(b">x\nAC\n>y\n>z\nA\xffC\n>\nAC\n>v\nGG\n")
    items = list(data.stream_records(path, roles=ROLES, required=("sequence",)))
    assert [r and r["sequence"] for r, _ in items] == ["AC", None, None, None, "GG"]
    said = [str(e) for _, e in items if e]
    assert 'a.fa, record 2: the sequence of "y" is empty' in said[0]
    assert "a.fa, record 3: expected UTF-8 text, found the byte 0xff" in said[1]
    assert "a.fa, record 4: expected a name in the header" in said[2]
    with pytest.raises(DataError, match="record 2"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.fa", b"ACGT\n", r'a.fa, line 1: expected ">" and a name, found \'ACGT\''),
        ("a.fa", b"\n\n", r'a.fa" has no record; give a file'),
        ("a.fq", b"\n", "has no record"),
        ("a.gb", b"\n", "has no record"),
        ("a.fa.gz", gzip.compress(b">x\nACGT\n" * 999, mtime=0)[:-9], "is damaged or not gzip"),
        ("a.pdb.gz", gzip.compress(b"x" * 999, mtime=0)[:-9], "is damaged or not gzip"),
        ("a.pdb", b"nothing\n", "cannot be read as a structure"),
        ("a.cif", b"nothing\n", "cannot be read as a structure"),
        ("a.fq", b"@x\nACGT\n+\nIII\n", "a.fq, record 1: expected 4 qualities, one a letter, found 3"),
        ("a.fq", b">x\nACGT\n", r'a.fq, record 1: expected "@" and a name'),
        ("a.gb", b"LOCUS  x\n", r'a.gb, record 1: expected "//" at its end'),
        ("a.gb", b"x\n//\n", "record 1: expected a line LOCUS"),
    ],
)
def test_what_is_no_such_file(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read(tmp_path / name)


def test_fastq(tmp_path):
    path = tmp_path / "reads.fastq"
    # qualities may begin with @ and a record may have several lines
    path.write_text("@x label=a\nACGT\n+\n@III\n\n@y\nAC\nGT\n+y\nII\n@I\n@z\n\n+\n\n@v\nAC\n+w\nII\n")
    items = list(data.stream_records(path, roles=ROLES, required=("sequence",)))
    assert [r["sequence"] for r, _ in items if r] == ["ACGT", "ACGT"]
    assert 'record 3: the sequence of "z" is empty' in str(items[2][1])
    assert "record 4: expected 'v' again before the qualities, found 'w'" in str(items[3][1])


def test_genbank(tmp_path):
    path = tmp_path / "a.gbff"
    path.write_text(genbank("acgtacgtac", "ggcc"))
    first, second = rows(path)
    assert first == {
        "id": "AB1.1",
        "description": "A gene of a bacterium",
        "sequence": "acgtacgtac",
        "organism": "Escherichia coli",
    }
    assert (second["id"], second["sequence"]) == ("AB2.1", "ggcc")
    path.write_text(genbank("ggcc").replace("AB1.1", ".").replace("ACCESSION   AB1", "ACCESSION   ."))
    assert rows(path)[0]["id"] == "AB1"
    path.write_text(genbank("acgtacgtac", "ggcc").replace("ggcc", "gg").replace("acgtac\n", "acgtac\n\n"))
    assert "expected 4 letters as LOCUS" in str(rows(path)[1])


def test_a_record_at_a_time(tmp_path):
    """Later contigs are not read before they are asked for."""
    path = tmp_path / "a.gb"
    path.write_text(genbank("acgt") * 3 + "damaged\n//\n")
    stream = sequence_table(path).rows(None)
    assert next(stream)[1]["sequence"] == "acgt"
    held = io.BytesIO(b">x\nAC\n>y\nGG\n")
    from pretune.readers import decoded
    from pretune.sequence_reading import fasta_rows

    next(fasta_rows("held", decoded("held", held.__iter__())))
    assert held.read() != b""


@pytest.mark.parametrize("ending", [".pdb", ".ent", ".cif", ".pdb.gz", ".cif.gz"])
def test_structures(ending, tmp_path):
    chains = {"A": ["ALA", "GLY", "MSE", "TRP", "HOH", "GLU"], "B": ["HOH"], "C": ["LYS", "VAL"]}
    plain = write_pdb(tmp_path / "1abc.txt", chains, models=2)
    path = tmp_path / f"1abc{ending}"
    content = plain.read_text() if "cif" not in ending else as_cif(plain)
    path.write_bytes(gzip.compress(content.encode()) if ending.endswith("gz") else content.encode())
    first, second = rows(path)
    assert (first["id"], first["sequence"]) == ("1abc_A", "AGMW")
    assert (second["id"], second["sequence"]) == ("1abc_C", "KV")
    places = {k: np.array(first[k]) for k in ("n", "ca", "c", "cb")}
    assert {p.shape for p in places.values()} == {(4, 3)}
    assert np.allclose(places["ca"][:, 0], 3.3 * np.arange(1, 5) + 1)
    assert np.allclose(places["cb"][1], places["ca"][1])  # glycine
    assert np.allclose(places["cb"][0], [4.8, 1, 0])
    assert texts(path) == ["AGMW", "KV"]


def test_the_place_of_an_atom_is_the_one_that_is_occupied_most(tmp_path: Path) -> None:
    path = write_pdb(tmp_path / "a.pdb", {"A": ["ALA", "VAL", "LYS"]})
    lines = []
    for line in path.read_text().splitlines():
        if " CA  VAL" not in line:
            lines.append(line)
            continue
        x = float(line[30:38])
        for letter, moved, share in (("A", 5.0, 0.2), ("B", 0.0, 0.8)):
            lines.append(f"{line[:16]}{letter}{line[17:30]}{x + moved:8.3f}{line[38:54]}{share:6.2f}{line[60:]}")
    path.write_text("\n".join([*lines, ""]))
    places = np.array(rows(path)[0]["ca"])
    assert np.allclose(places[:, 0], 3.3 * np.arange(1, 4) + 1)


def test_a_cif_file_by_another_name_is_told_its_ending(tmp_path: Path) -> None:
    path = tmp_path / "a.pdb"
    path.write_text(as_cif(write_pdb(tmp_path / "b.pdb", {"A": ["ALA", "VAL", "LYS"]})))
    with pytest.raises(DataError, match=r"begins as mmCIF; give it the ending \.cif"):
        rows(path)


def as_cif(path: Path) -> str:
    from biotite.structure.io import pdb, pdbx

    file = pdbx.CIFFile()
    with path.open() as stream:
        pdbx.set_structure(file, pdb.PDBFile.read(stream).get_structure())
    out = io.StringIO()
    file.write(out)
    return out.getvalue()


def test_missing_atoms_and_unknown_residues(tmp_path):
    path = write_pdb(tmp_path / "a.pdb", {"A": ["ALA", "UNK", "VAL"]})
    kept = [line for line in path.read_text().splitlines() if not (" N   VAL" in line or " CB  ALA" in line)]
    path.write_text("\n".join(kept) + "\n")
    (row,) = rows(path)
    assert row["sequence"] == "AXV"
    assert np.isnan(row["n"][2]).all()
    assert row["cb"][0] == row["ca"][0]
    found = read(path, columns={"ca": "ca"})
    assert np.array(found[0]["ca"]).shape == (3, 3)
    (tmp_path / "w.pdb").write_text(write_pdb(tmp_path / "v.pdb", {"A": ["HOH"]}).read_text())
    with pytest.raises(DataError, match="has no chain of amino acids"):
        rows(tmp_path / "w.pdb")


def test_folders_of_classes(tmp_path):
    for label in ("bacteria", "virus"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.fa").write_text(f">x of={label}\nACGT\n>y\nGG\n")
    (tmp_path / "virus" / "b.txt").write_text("CC\nTT\n")
    found = read(tmp_path, LABELLED)
    assert [(r["sequence"], r["label"]) for r in found] == [
        *[("ACGT", "bacteria"), ("GG", "bacteria"), ("ACGT", "virus"), ("GG", "virus")],
        *[("CC", "virus"), ("TT", "virus")],
    ]
    assert texts(tmp_path) == ["ACGT", "GG", "ACGT", "GG", "CC", "TT"]
    (tmp_path / "virus" / "a.fa").write_text(">x label=coding\nACGT\n")
    with pytest.raises(DataError, match=r'record 1: its own label is "coding", that of its folder "virus"'):
        read(tmp_path, LABELLED)


def test_splits_and_what_is_not_read(tmp_path):
    for split, sequence in (("train", "ACGT"), ("test", "GGGG")):
        (tmp_path / f"{split}.fa.gz").write_bytes(gzip.compress(f">x\n{sequence}\n".encode()))
    assert texts(f"{tmp_path}:test") == ["GGGG"]
    with pytest.raises(DataError, match="holds several splits"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"expected files that end in .*\.txt"):
        list(data.documents(tmp_path))
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(DataError, match=r"ends in .*\.fasta, .*\.genbank, .*\.cif"):
        read(tmp_path / "a.xyz")


def test_tables_text_and_memory(tmp_path):
    frame = pd.DataFrame({"id": NAMES, "protein": TEXTS, "class": LABELS})
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert [r["label"] for r in read(tmp_path / "a.csv", LABELLED)] == LABELS
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    for source in (tmp_path / "a.csv", tmp_path / "a.txt", TEXTS, frame, [{"seq": s} for s in TEXTS]):
        assert texts(source) == TEXTS
    with pytest.raises(DataError, match=r"expected text in column \"seq\""):
        read([{"seq": 3}])


def test_tags_of_residues_come_as_one_string(tmp_path):
    pd.DataFrame({"sequence": ["ACD"], "ss": ["HHC"]}).to_csv(tmp_path / "a.csv", index=False)
    assert read(tmp_path / "a.csv", {**ROLES, "tags": ("ss",)})[0]["tags"] == ["HHC"]


@pytest.mark.parametrize("content", ["\n".join(TEXTS), fasta(), "".join(f'{{"seq": "{s}"}}\n' for s in TEXTS)])
def test_stdin(content, monkeypatch):
    class Typed:
        buffer = io.BytesIO(content.encode())

    monkeypatch.setattr(sys, "stdin", Typed)
    assert texts("-") == TEXTS


def test_a_label_that_is_missing_is_said(tmp_path):
    (tmp_path / "a.fa").write_text(">x\nACGT\n")
    with pytest.raises(DataError, match=r'record 1: has no column for "label".* its columns are id, description, seq'):
        read(tmp_path / "a.fa", LABELLED)


def test_real_data(shared: Path):
    if not (shared / "ecoli_k12_genome").is_dir():
        pytest.skip("no ecoli_k12_genome here")
    (genome,) = texts(shared / "ecoli_k12_genome")
    assert len(genome) == 4_641_652
    assert len(texts(shared / "ecoli_proteome")) == 4298
    valid = read(f"{shared / 'protein_unlabelled'}:valid", columns={"group": "source"})
    assert len(valid) == 1000
    assert "Bacteria_AMR" in {r["group"] for r in valid}
