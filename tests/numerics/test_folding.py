"""Chains from distances, against coordinates that are known."""

from __future__ import annotations

import biotite.structure as struc
import numpy as np
import pytest
from biotite.structure.io import pdb, pdbx
from scipy.spatial.distance import cdist

from pretune.folding import classical_mds, completed, expected_lddt, fold, restraints
from pretune.structure_scores import chain, structure_scores, write_structure
from protein_stand_in import helix

EDGES = np.linspace(2, 22, 41)


def walk(length, seed=0):
    """A compact chain with steps of 3.8 Angstrom."""
    rng = np.random.default_rng(seed)
    points = [np.zeros(3)]
    while len(points) < length:
        step = rng.normal(size=3) - 0.05 * points[-1]
        new = points[-1] + 3.8 * step / np.linalg.norm(step)
        if all(np.linalg.norm(new - p) > 4.2 for p in points[:-1]):
            points.append(new)
    return np.array(points)


def distogram(points):
    """All probability in the bin of the true distance."""
    bins = np.digitize(cdist(points, points), EDGES[1:])
    return np.eye(len(EDGES))[bins]


def laid(reference, subject):
    fitted, _ = struc.superimpose(chain(reference), chain(subject))
    return struc.rmsd(chain(reference), fitted)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exact_distances_give_the_coordinates_back_up_to_motion_and_mirror(seed):
    points = walk(60, seed)
    found = classical_mds(cdist(points, points))
    assert min(laid(points, found), laid(points, found * [1, 1, -1])) < 0.1
    np.testing.assert_allclose(cdist(found, found), cdist(points, points), atol=1e-6)


def test_missing_distances_become_shortest_paths():
    line = np.arange(6)[:, None] * np.array([[3.8, 0, 0]])
    true = cdist(line, line)
    partial = np.where(true > 8, np.nan, true)
    np.testing.assert_allclose(completed(partial), true, atol=1e-9)


def test_median_and_spread_of_a_distogram():
    probabilities = np.zeros((1, 3, 41))
    probabilities[0, 0, [10, 11]] = 0.5  # 7 to 8 Angstrom, evenly
    probabilities[0, 1, [10, 40]] = 0.4, 0.6
    probabilities[0, 2] = np.nan
    found = restraints(probabilities, EDGES)
    assert found.distances[0, 0] == pytest.approx(7.5)
    assert found.spread[0, 0] == pytest.approx(0.25)
    assert np.isnan(found.distances[0, 1:]).all()
    assert found.beyond[0].tolist() == [0, 0.6, 0]


@pytest.mark.parametrize(("length", "most"), [(24, 1.0), (45, 2.0)])  # ends beyond 22 Angstrom are free to bend
def test_a_helix_comes_back_right_handed(length, most):
    found = fold(distogram(helix(length)), EDGES, steps=100)
    assert laid(helix(length), found.coordinates) < most
    assert laid(helix(length), found.coordinates * [1, 1, -1]) > 3
    assert found.confidence.min() > 70


def test_a_compact_chain_comes_back_from_its_binned_distances():
    points = walk(70, 3)
    found = fold(distogram(points), EDGES, steps=100).coordinates
    assert min(laid(points, found), laid(points, found * [1, 1, -1])) < 1.0
    bonds = np.linalg.norm(np.diff(found, axis=0), axis=1)
    np.testing.assert_allclose(bonds, 3.8, atol=0.5)
    assert structure_scores(found, points.astype(np.float32))["lddt"] > 0.85


def test_confidence_is_the_lddt_that_a_sharp_distogram_gives():
    points = walk(50, 4)
    moved = points + np.random.default_rng(0).normal(size=points.shape) * 0.7
    true = struc.lddt(chain(points), chain(moved), aggregation="residue")
    found = expected_lddt(moved, distogram(points), EDGES)
    assert np.abs(found - true).mean() < 0.05
    flat = np.full((50, 50, 41), 1 / 41)
    assert expected_lddt(points, flat, EDGES).mean() < 0.2


def test_scores_of_a_chain_with_itself_and_moved():
    points = walk(60).astype(np.float32)
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    gaps = points.copy()
    gaps[5] = np.nan
    for true in (points, gaps):
        found = structure_scores(points @ turn.T + [4, -2, 9], true)
        assert found["tm_score"] == pytest.approx(1, abs=1e-4)
        assert found["lddt"] == pytest.approx(1, abs=1e-4)
        assert found["rmsd"] == pytest.approx(0, abs=1e-3)
    assert structure_scores(walk(60, 9), points)["tm_score"] < 0.4
    assert np.isnan(structure_scores(points, np.full_like(points, np.nan))["lddt"])


def test_files_hold_residues_coordinates_and_confidence(tmp_path):
    points = walk(5)
    write_structure(chain(points, "MKVXw", [10, 20, 30, 40, 50]), tmp_path / "p")
    old = pdb.PDBFile.read(str(tmp_path / "p.pdb")).get_structure(model=1, extra_fields=["b_factor"])
    new = pdbx.get_structure(pdbx.CIFFile.read(str(tmp_path / "p.cif")), model=1, extra_fields=["b_factor"])
    for atoms in (old, new):
        assert atoms.res_name.tolist() == ["MET", "LYS", "VAL", "UNK", "TRP"]
        assert atoms.res_id.tolist() == [1, 2, 3, 4, 5]
        np.testing.assert_allclose(atoms.coord, points, atol=2e-3)
        assert atoms.b_factor.tolist() == [10, 20, 30, 40, 50]
