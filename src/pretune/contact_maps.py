"""Which residues of a protein touch: true maps from coordinates, corrected attention, and precision of a ranking."""

from __future__ import annotations

__all__ = [
    "RANGES",
    "ContactScores",
    "as_coordinates",
    "average_product_correction",
    "is_contact",
    "pair_distances",
    "ranked_pairs",
]

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.errors import DataError, shortened

Floats: TypeAlias = NDArray[np.float64]

RANGES: Mapping[str, tuple[int, float]] = {"long": (24, np.inf), "medium": (12, 24), "short": (6, 12)}
"""Sequence separations of each range, first and last + 1, as CASP has them."""

_SHARES = {"l": 1, "l2": 2, "l5": 5}


def as_coordinates(value: Any) -> NDArray[np.float32]:
    """Coordinates of one atom a residue, shape (residues, 3) in Angstrom, NaN where the atom is missing.

    Args:
        value: A list of three numbers for each residue; None for a missing residue or number.

    Raises:
        ValueError: It is anything else; the message is the reason alone.
    """
    rows = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(rows, list | tuple) or not rows:
        raise ValueError(f"expected a list of [x, y, z] in Angstrom, one a residue, found {shortened(value, 60)}.")
    try:
        found = np.array([[np.nan] * 3 if row is None else row for row in rows], np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected [x, y, z] in Angstrom for each residue, found {shortened(rows, 60)}.") from error
    if found.ndim != 2 or found.shape[1] != 3:
        raise ValueError(f"expected three coordinates a residue, found an array of shape {found.shape}.")
    found[~np.isfinite(found).all(1)] = np.nan
    return found


def pair_distances(coordinates: Tensor) -> Tensor:
    """Distances between residues in Angstrom, shape (..., residues, residues); NaN where an atom is missing.

    Args:
        coordinates: Shape (..., residues, 3).
    """
    difference = coordinates[..., :, None, :] - coordinates[..., None, :, :]
    return difference.square().sum(-1).sqrt()


def is_contact(distances: Tensor, *, cutoff: float, min_separation: int) -> Tensor:
    """1 for a contact, 0 for none and -1 for pairs that do not count, shape as `distances`, int8.

    Args:
        distances: In Angstrom, shape (..., residues, residues); NaN where an atom is missing.
        cutoff: Contacts are closer than this, in Angstrom.
        min_separation: Pairs that are fewer residues apart in the sequence do not count.
    """
    counts = ~distances.isnan() & (separations(distances.shape[-1], distances.device) >= min_separation)
    return torch.where(counts, (distances < cutoff).to(torch.int8), -1).to(torch.int8)


def separations(length: int, device: torch.device | None = None) -> Tensor:
    """Residues between two, shape (length, length)."""
    place = torch.arange(length, device=device)
    return (place[:, None] - place).abs()


def average_product_correction(maps: Tensor) -> Tensor:
    """Takes from each cell what its row and column predict: row sum x column sum / total (Dunn et al. 2008).

    Args:
        maps: Symmetric, zero outside of the residues, shape (..., residues, residues).
    """
    rows, columns = maps.sum(-1, keepdim=True), maps.sum(-2, keepdim=True)
    total = maps.sum((-2, -1), keepdim=True)
    return maps - rows * columns / torch.where(total == 0, 1.0, total)


def ranked_pairs(
    probabilities: Floats, *, min_separation: int, threshold: float = 0.5, known: NDArray[np.bool_] | None = None
) -> list[tuple[int, int, float]]:
    """The pairs worth naming, most probable first: as many as residues of each range, and all above a threshold.

    Args:
        probabilities: Shape (residues, residues); NaN for pairs that no window has seen.
        min_separation: Least separation in the sequence.
        threshold: Probability above which a pair is always named.
        known: Which pairs can be judged, shape (residues, residues): as many of these are named, too.

    Returns:
        ``(i, j, probability)`` with i < j, counted from 1.
    """
    length = len(probabilities)
    i, j = np.triu_indices(length, min_separation)
    values = probabilities[i, j]
    seen = ~np.isnan(values)
    i, j, values = i[seen], j[seen], values[seen]
    order = np.argsort(-values, kind="stable")
    i, j, values = i[order], j[order], values[order]
    chosen = values > threshold
    for low, high in RANGES.values():
        ranged = (j - i >= low) & (j - i < high)
        for wanted in (ranged, ranged if known is None else ranged & known[i, j]):
            chosen[np.flatnonzero(wanted)[:length]] = True
    rows = zip(i[chosen] + 1, j[chosen] + 1, values[chosen], strict=True)
    return [(int(a), int(b), round(float(p), 4)) for a, b, p in rows]


class ContactScores:
    """Precision of ranked contacts: of the L / k most probable pairs of a range, the share that touch.

    L is the number of residues. Pairs with a missing atom are passed over; a range in which a protein has no pair is
    not counted for it. Beside it stand the two rankings that need no model: ``random`` (the share of all pairs that
    touch) and ``nearest`` (pairs by separation in the sequence, closest first).

    Args:
        predicted: For each protein its `ranked_pairs`.
        true: For each protein the coordinates, shape (residues, 3), NaN where missing.
        cutoff: In Angstrom.
        min_separation: Pairs that are closer in the sequence do not count.

    Raises:
        DataError: No pair of the long range, by which models are chosen, can be judged.
    """

    def __init__(
        self,
        predicted: Sequence[Sequence[Sequence[float]]],
        true: Sequence[NDArray[np.float32]],
        *,
        cutoff: float,
        min_separation: int,
    ) -> None:
        self._names: list[str] = []
        rows = []
        for pairs, coordinates in zip(predicted, true, strict=True):
            distances = pair_distances(torch.from_numpy(coordinates))
            truth = is_contact(distances, cutoff=cutoff, min_separation=min_separation).numpy()
            scores = _scores(pairs, truth)
            self._names = list(scores)
            rows.append(list(scores.values()))
        self._table = np.array(rows, float).reshape(len(rows), -1)
        if rows and np.isnan(self._table[:, self._names.index("long_p_l5")]).all():
            raise DataError(
                f"None of {len(rows)} proteins has two residues with coordinates that are {RANGES['long'][0]} or more "
                "apart in the sequence, so that no contact can be scored; give longer ones, or their coordinates."
            )

    def metrics(self, chosen: Sequence[int]) -> dict[str, float]:
        """Means over proteins drawn by index, with replacement: ``long_p_l5`` ... and the two baselines.

        What no protein that was drawn has is left out.
        """
        part = self._table[np.asarray(chosen, int)]
        known = ~np.isnan(part)
        means = np.where(known, part, 0).sum(0) / np.maximum(known.sum(0), 1)
        return {n: float(m) for n, m, any_ in zip(self._names, means, known.any(0), strict=True) if any_}


def _scores(pairs: Sequence[Sequence[float]], truth: NDArray[np.int8]) -> dict[str, float]:
    length = len(truth)
    i, j = np.triu_indices(length, 1)
    usable = truth[i, j] >= 0
    every = np.stack([i[usable], j[usable]], 1)
    found = np.array([p[:2] for p in pairs], int).reshape(-1, 2) - 1
    scores: dict[str, float] = {}
    for name, (low, high) in RANGES.items():
        possible, ranked = (_within(p, truth, low, high) for p in (every, found))
        for share, part in _SHARES.items():
            number = min(len(possible), max(1, length // part))
            scores[f"{name}_p_{share}"] = _precision(ranked[:number], truth) if number else np.nan
    possible = _within(every, truth, *RANGES["long"])
    nearest = possible[np.argsort(possible[:, 1] - possible[:, 0], kind="stable")][: max(1, length // 5)]
    scores["random_long_p_l5"] = _precision(possible, truth) if len(possible) else np.nan
    scores["nearest_long_p_l5"] = _precision(nearest, truth) if len(possible) else np.nan
    return scores


def _within(pairs: NDArray[np.int_], truth: NDArray[np.int8], low: float, high: float) -> NDArray[np.int_]:
    apart = pairs[:, 1] - pairs[:, 0]
    return pairs[(apart >= low) & (apart < high) & (truth[pairs[:, 0], pairs[:, 1]] >= 0)]


def _precision(pairs: NDArray[np.int_], truth: NDArray[np.int8]) -> float:
    return float((truth[pairs[:, 0], pairs[:, 1]] == 1).mean()) if len(pairs) else 0.0
