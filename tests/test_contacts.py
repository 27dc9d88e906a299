"""Contacts and structures of proteins from end to end, on proteins whose fold follows from their letters."""

from __future__ import annotations

import json

import biotite.structure as struc
import numpy as np
import pytest
from biotite.structure.io import pdb

import pretune
from pretune.contact_maps import as_coordinates
from pretune.errors import DataError
from protein_stand_in import proteins


@pytest.fixture
def data(tmp_path):
    files = {}
    for part, seed in (("train", 0), ("test", 1)):
        rows = proteins(24, seed=seed)
        keep = [{"id": r["id"], "sequence": r["sequence"], "ca": r["structure"]} for r in rows]
        files[part] = tmp_path / f"{part}.jsonl"
        files[part].write_text("\n".join(map(json.dumps, keep)) + "\n")
    return files


def tuned(data, out, task, **options):
    return pretune.finetune(
        str(data["train"]), out=str(out), task=task, modality="protein", scratch=True, size="tiny", family="esm",
        batch_size=8, num_validations=2, test=str(data["test"]), **options,
    )  # fmt: skip


def test_contacts_are_learnt_predicted_and_written(data, tmp_path):
    result = tuned(data, tmp_path / "run", {"name": "contacts", "width": 16}, budget="100steps", lr=5e-4)
    assert result.metrics["test_long_p_l5"] > 0.45  # of the helices, which are half, nothing touches
    assert result.metrics["test_random_long_p_l5"] < 0.25
    predictor = pretune.load(tmp_path / "run")
    found = list(predictor.stream(str(data["test"]), files=tmp_path / "maps"))
    assert len(found) == 24
    first = np.load(tmp_path / "maps" / "p0.npy")
    i, j, p = found[0]["contacts"][0]
    assert first[i - 1, j - 1] == pytest.approx(p, abs=1e-3)
    assert (tmp_path / "maps" / "p0.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "maps").iterdir())) == 48
    bare = predictor.predict([{"sequence": "AEKAEKAEKAEKAEKAEKAEK"}, {"sequence": "A1"}])
    assert bare[0]["length"] == 21
    assert "error" in bare[1]


def test_structures_are_learnt_predicted_and_written(data, tmp_path):
    result = tuned(data, tmp_path / "run", {"name": "structure", "steps": 60}, budget="150steps", lr=1e-3)
    assert result.metrics["test_lddt"] > 0.6
    found = list(pretune.load(tmp_path / "run").stream(str(data["test"]), files=tmp_path / "chains"))
    atoms = pdb.PDBFile.read(str(tmp_path / "chains" / "p1.pdb")).get_structure(model=1, extra_fields=["b_factor"])
    np.testing.assert_allclose(atoms.coord, found[1]["ca"], atol=2e-3)
    np.testing.assert_allclose(atoms.b_factor, found[1]["confidence"], atol=0.01)
    turns = struc.dihedral(*(atoms.coord[k : len(atoms) - 3 + k] for k in range(4)))
    assert (turns > 0).mean() > 0.8  # right-handed
    # its own chains, read back as the truth: PDB files are labelled data
    again = pretune.evaluate(tmp_path / "run", str(tmp_path / "chains"))
    assert again.metrics["lddt"] > 0.99
    assert again.metrics["rmsd"] < 0.05


def test_precision_counts_pairs_that_are_known(data, tmp_path):
    rows = [json.loads(line) for line in data["train"].read_text().splitlines()]
    for row in rows:
        row["ca"] = [place if k % 2 else None for k, place in enumerate(row["ca"])]
    tuned(data, tmp_path / "run", {"name": "contacts", "width": 16}, budget="2steps")
    found = pretune.evaluate(tmp_path / "run", rows).metrics
    predictor, precisions = pretune.load(tmp_path / "run"), []
    for row in rows:
        scores = predictor.task.probabilities({"sequence": row["sequence"]})
        truth = predictor.task.truth(as_coordinates(row["ca"])).numpy()
        i, j = np.triu_indices(len(truth), 24)
        known = np.flatnonzero(truth[i, j] >= 0)
        best = known[np.argsort(-scores[i, j][known], kind="stable")][: len(truth)]
        precisions += [(truth[i[best], j[best]] == 1).mean()] if len(best) else []
    assert found["long_p_l"] == pytest.approx(np.mean(precisions), abs=1e-6)
    short = [row | {"sequence": row["sequence"][:20], "ca": row["ca"][:20]} for row in rows]
    with pytest.raises(DataError, match="None of 24 proteins has two residues with coordinates that are 24 or more"):
        pretune.evaluate(tmp_path / "run", short)
    (bad,) = predictor.predict([{"sequence": "LAGV" * 200 + "1" + "LAGV"}])
    assert 'Found "1" at position 801' in bad["error"]


def test_coordinates_in_nanometres_are_refused(data):
    rows = [json.loads(line) for line in data["train"].read_text().splitlines()]
    small = [row | {"ca": [place and [x and x / 10 for x in place] for place in row["ca"]]} for row in rows]
    assert not pretune.check(rows, task="contacts", modality="protein").problems
    problem = pretune.check(small, task="contacts", modality="protein").problems[0]
    assert "are these nanometres? Multiply them by 10." in problem


def test_check_counts_residues_with_coordinates(data):
    report = pretune.check(str(data["train"]), task="contacts", modality="protein", test=str(data["test"]))
    assert not report.problems
    assert report.facts["labels"]["residues with coordinates"] == report.facts["total letters"] - 1


def test_coordinates_that_do_not_fit_are_refused_with_file_and_row(data, tmp_path):
    rows = [json.loads(line) for line in data["train"].read_text().splitlines()]
    rows[4]["ca"] = rows[4]["ca"][:-1]
    bad = tmp_path / "bad.jsonl"
    bad.write_text("\n".join(map(json.dumps, rows)) + "\n")
    with pytest.raises(pretune.errors.DataError, match=r"bad\.jsonl, row 5: expected coordinates for each of the"):
        tuned({**data, "train": bad}, tmp_path / "run", "contacts")
