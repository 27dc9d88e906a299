"""From distances between residues to a chain in space: classical scaling, restraints, handedness, confidence."""

from __future__ import annotations

__all__ = ["Fold", "Restraints", "classical_mds", "completed", "expected_lddt", "fold", "restraints"]

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.contact_maps import pair_distances, separations

Floats: TypeAlias = NDArray[np.float64]

BOND = 3.8
"""Angstrom between the C-alpha atoms of neighbours (trans peptides)."""

_CLASH = 4.0
_BOND_WEIGHT, _CLASH_WEIGHT, _BEYOND_WEIGHT, _TURN_WEIGHT = 10.0, 5.0, 0.02, 0.02
_HELIX = 6.5
"""Residues i and i + 3 that are expected closer than this, in Angstrom, turn as an alpha helix does."""

_LDDT_RADIUS, _LDDT_BINS = 15.0, (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Fold:
    """A predicted chain.

    Attributes:
        coordinates: Of the C-alpha atoms in Angstrom, shape (residues, 3).
        confidence: `expected_lddt` of each residue, 0 to 100, shape (residues,).
    """

    coordinates: Floats
    confidence: Floats


@dataclass(frozen=True)
class Restraints:
    """What a distogram says about each pair, all of shape (residues, residues).

    Attributes:
        distances: Median distance in Angstrom; NaN where the median is beyond the last edge, or unknown.
        spread: Standard deviation within the edges, in Angstrom.
        beyond: Probability that the distance is beyond the last edge.
    """

    distances: Floats
    spread: Floats
    beyond: Floats


def restraints(probabilities: Floats, edges: Floats) -> Restraints:
    """Medians and spreads of a distogram.

    Args:
        probabilities: Shape (residues, residues, bins + 1), the last beyond the last edge; NaN where unknown.
        edges: Of the bins in Angstrom, shape (bins + 1,).
    """
    known = np.nan_to_num(probabilities)
    within, beyond = known[..., :-1], np.where(np.isnan(probabilities[..., -1]), 0.0, known[..., -1])
    below = np.concatenate([np.zeros((*within.shape[:2], 1)), within.cumsum(-1)], axis=-1)
    last = np.clip((below < 0.5).sum(-1) - 1, 0, within.shape[-1] - 1)
    start, mass = (np.take_along_axis(a, last[..., None], -1)[..., 0] for a in (below, within))
    inside = np.clip((0.5 - start) / np.maximum(mass, 1e-9), 0, 1)
    median = edges[last] + inside * (edges[last + 1] - edges[last])
    centres = (edges[:-1] + edges[1:]) / 2
    total = np.maximum(within.sum(-1), 1e-9)
    mean = within @ centres / total
    spread = np.sqrt(np.maximum(within @ centres**2 / total - mean**2, 0))
    return Restraints(np.where(below[..., -1] >= 0.5, median, np.nan), spread, beyond)


def completed(distances: Floats) -> Floats:
    """Distances with shortest paths in place of those that are missing, as Isomap has them (Tenenbaum et al. 2000).

    Args:
        distances: In Angstrom, symmetric, shape (residues, residues); NaN where missing. Neighbours have a bond.
    """
    from scipy.sparse.csgraph import shortest_path

    graph = np.where(np.isnan(distances), 0.0, distances)
    place = np.arange(len(graph) - 1)
    graph[place, place + 1] = graph[place + 1, place] = BOND
    np.fill_diagonal(graph, 0.0)
    paths = shortest_path(graph, directed=False)
    found = np.where(np.isnan(distances), paths, graph)
    np.fill_diagonal(found, 0.0)
    return found


def classical_mds(distances: Floats) -> Floats:
    """Points whose distances are nearest to these in the sense of Torgerson (1952), up to motion and mirror.

    Args:
        distances: Complete and symmetric, shape (points, points).

    Returns:
        Shape (points, 3), its middle at 0.
    """
    squares = distances**2
    means = squares.mean(0)
    products = -0.5 * (squares - means[:, None] - means + means.mean())
    values, vectors = np.linalg.eigh(products)
    found = vectors[:, -3:] * np.sqrt(np.maximum(values[-3:], 0))
    return np.pad(found, ((0, 0), (0, 3 - found.shape[1])))


@torch.inference_mode(False)
def fold(probabilities: Floats, edges: Floats, *, steps: int) -> Fold:
    """A chain of C-alpha atoms that fits a distogram.

    It starts from `classical_mds` of the completed median distances and lowers a potential: distances from their
    medians (the less certain, the weaker), 3.8 Angstrom between neighbours, no two residues nearer than 4, pairs that
    are likely beyond the last edge not within it, and turns of alpha helices to the right. Distances alone do not tell
    a chain from its mirror image: both are lowered, and the one with the lower potential stays, which is the one whose
    helices are right-handed; without helices the choice is arbitrary.

    Args:
        probabilities: Shape (residues, residues, bins + 1), the last beyond the last edge; NaN where unknown.
        edges: Of the bins in Angstrom, shape (bins + 1,).
        steps: Of gradient descent.
    """
    found = restraints(probabilities, edges)
    start = classical_mds(completed(found.distances))
    noise = np.random.default_rng(0).normal(size=start.shape) * 0.1  # flat starts would stay flat
    both = torch.from_numpy(np.stack([start + noise, (start + noise) * [1, 1, -1]])).float()
    potential = _Potential(found, float(edges[-1]))
    lowered = _lowered(both, potential, steps)
    best = lowered[int(potential(lowered).argmin())].double().numpy()
    return Fold(best, 100 * expected_lddt(best, probabilities, edges))


def _lowered(start: Tensor, potential: _Potential, steps: int) -> Tensor:
    with torch.enable_grad():
        points = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([points], lr=1.0)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.zero_grad()
            potential(points).sum().backward()
            optimizer.step()
    return points.detach()


class _Potential:
    """The potential that `fold` lowers, of chains of shape (chains, residues, 3)."""

    def __init__(self, found: Restraints, last_edge: float) -> None:
        length = len(found.distances)
        apart = separations(length)
        known = torch.from_numpy(~np.isnan(found.distances)) & (apart > 1)
        self._i, self._j = torch.triu_indices(length, length, 2)
        weight = known / (1 + torch.from_numpy(found.spread) ** 2)
        self._weight = weight[self._i, self._j].float()
        self._median = torch.from_numpy(np.nan_to_num(found.distances))[self._i, self._j].float()
        self._beyond = torch.from_numpy(np.where(known, 0.0, found.beyond))[self._i, self._j].float()
        self._last_edge = last_edge
        turns = torch.from_numpy(np.nan_to_num(np.diagonal(found.distances, 3), nan=np.inf) < _HELIX)
        self._turns = turns.float()

    def __call__(self, points: Tensor) -> Tensor:
        """One value a chain, shape (chains,)."""
        distances = _length(points[:, self._i] - points[:, self._j])
        error = torch.nn.functional.huber_loss(distances, self._median.expand_as(distances), reduction="none")
        value = (self._weight * error).sum(1)
        value = value + _CLASH_WEIGHT * (_CLASH - distances).clamp(min=0).square().sum(1)
        value = value + _BEYOND_WEIGHT * (self._beyond * (self._last_edge - distances).clamp(min=0).square()).sum(1)
        steps = points[:, 1:] - points[:, :-1]
        value = value + _BOND_WEIGHT * (_length(steps) - BOND).square().sum(1)
        return value + _TURN_WEIGHT * (self._turns * (_turn(steps) - _HELIX_TURN).square()).sum(1)


def _length(vectors: Tensor) -> Tensor:
    return (vectors.square().sum(-1) + 1e-6).sqrt()


def _turn(steps: Tensor) -> Tensor:
    """Triple product of three steps in a row, positive to the right; shape (chains, residues - 3)."""
    return (torch.linalg.cross(steps[:, :-2], steps[:, 1:-1]) * steps[:, 2:]).sum(-1)


def _ideal_turn() -> float:
    angle = torch.deg2rad(torch.tensor(100.0)) * torch.arange(4)
    helix = torch.stack([2.3 * angle.cos(), 2.3 * angle.sin(), 1.5 * torch.arange(4)], dim=1)[None]
    return float(_turn(helix[:, 1:] - helix[:, :-1]))


_HELIX_TURN = _ideal_turn()
"""Of an alpha helix: radius 2.3 Angstrom, rise 1.5, 100 degrees a residue."""


def expected_lddt(coordinates: Floats, probabilities: Floats, edges: Floats) -> Floats:
    """What lDDT of each residue the distogram itself expects of a chain, 0 to 1, shape (residues,).

    For each pair within 15 Angstrom in the chain: the probability that the true distance is within 0.5, 1, 2 and 4
    Angstrom of the chain's, mean of the four (compare Mariani et al. 2013). It is as honest as the distogram.

    Args:
        coordinates: In Angstrom, shape (residues, 3).
        probabilities: Shape (residues, residues, bins + 1); NaN where unknown.
        edges: Of the bins in Angstrom, shape (bins + 1,).
    """
    distances = pair_distances(torch.from_numpy(coordinates)).numpy()
    within = np.nan_to_num(probabilities[..., :-1])
    low, high = edges[:-1], edges[1:]
    score = np.zeros_like(distances)
    for reach in _LDDT_BINS:
        overlap = np.minimum(high, distances[..., None] + reach) - np.maximum(low, distances[..., None] - reach)
        score += (within * np.clip(overlap / (high - low), 0, 1)).sum(-1) / len(_LDDT_BINS)
    near = (distances < _LDDT_RADIUS) & ~np.eye(len(distances), dtype=bool)
    return (score * near).sum(1) / np.maximum(near.sum(1), 1)
