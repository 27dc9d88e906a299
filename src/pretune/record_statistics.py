"""A record as numbers, from one pass of the encoder: its places on average, and how they follow one another."""

from __future__ import annotations

__all__ = ["Measured", "Statistics"]

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from pretune.embedding import Embedder
from pretune.evaluation import buckets, evaluating, to_device
from pretune.layer_states import position_states
from pretune.modalities.base import Example

_DIRECTIONS = 16
"""Directions in which states are predicted from their neighbours: those in which they vary most."""

_REACH = 4
"""Neighbours on each side."""

_FAR = 6.0
"""Standard deviations to which a direction is cut: one odd place is not the whole record."""

_RIDGE = 10.0

_BATCH = 64


@dataclass(frozen=True)
class Measured:
    """Records, as numbers.

    Attributes:
        parts: By name, one row a record, shape (records, columns).
        lengths: Of the records, as the modality counts them.
    """

    parts: dict[str, NDArray[np.float64]]
    lengths: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.lengths)

    def __add__(self, other: Measured) -> Measured:
        lengths = np.concatenate([self.lengths, other.lengths])
        return Measured({n: np.concatenate([p, other.parts[n]]) for n, p in self.parts.items()}, lengths)


@dataclass(frozen=True)
class Statistics:
    """Means and spreads of the states that enter and leave the encoder, and how well neighbours predict a state.

    A mean over places does not see their order. So the states that enter the first block are predicted from their
    neighbours on both sides by ridge regression, which is the linear form of masked prediction, and ``order`` is what
    the neighbours tell of a state: the mean log-likelihood ratio of the prediction and of no prediction, in nats.

    Attributes:
        centre: Of the states, (width,).
        basis: Directions in which they have variance 1, (width, directions).
        weights: Of the regression, (neighbours x directions, directions).
        rest: Variance that is left, (directions,).
    """

    centre: NDArray[np.float32]
    basis: NDArray[np.float32]
    weights: NDArray[np.float32]
    rest: NDArray[np.float32]

    @classmethod
    @torch.inference_mode()
    def learnt(cls, embedder: Embedder, examples: Sequence[Example]) -> Statistics:
        """What neighbours tell of a state, from some records."""
        entering = [own[0] for _, own in _states(embedder, examples)]
        places = torch.cat(entering)
        centre = places.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((places - centre).T).double())
        number = max(1, min(_DIRECTIONS, int((values > 1e-4 * values[-1]).sum())))
        basis = (vectors[:, -number:] / values[-number:].clamp(min=1e-12).sqrt()).float()
        rows = [_around(((s - centre) @ basis).clamp(-_FAR, _FAR)) for s in entering]
        here, around = (torch.cat(part).double() for part in zip(*rows, strict=True))
        square = around.T @ around + _RIDGE * torch.eye(around.shape[1], dtype=torch.float64, device=around.device)
        weights = torch.linalg.solve(square, around.T @ here)
        rest = (here - around @ weights).square().mean(0).clamp(min=1e-3)
        return cls(*(t.float().cpu().numpy() for t in (centre, basis, weights, rest)))

    @torch.inference_mode()
    def measure(self, embedder: Embedder, examples: Sequence[Example]) -> Measured:
        """Parts ``order`` (2 columns), ``first`` and ``last`` (mean and spread) and ``vector`` (the mean alone)."""
        rows: list[list[Tensor]] = [[] for _ in examples]
        for i, (first, last) in _states(embedder, examples):
            rows[i] = [self._order(first), _mean_and_spread(first), _mean_and_spread(last), last.mean(0)]
        names = ("order", "first", "last", "vector")
        parts = {n: torch.stack([r[k] for r in rows]).double().cpu().numpy() for k, n in enumerate(names)}
        return Measured(parts, np.array([embedder.modality.length(e) for e in examples], dtype=np.float64))

    def _order(self, states: Tensor) -> Tensor:
        centre, basis, weights, rest = (
            torch.from_numpy(a).to(states) for a in (self.centre, self.basis, self.weights, self.rest)
        )
        here, around = _around(((states - centre) @ basis).clamp(-_FAR, _FAR))
        size = here.square()
        gain = (size - (here - around @ weights).square() / rest - rest.log()).sum(1).mean() / 2
        return torch.stack([gain, size.sum(1).mean()])


def _mean_and_spread(states: Tensor) -> Tensor:
    return torch.cat([states.mean(0), states.std(0, correction=0)])


def _around(along: Tensor) -> tuple[Tensor, Tensor]:
    """States (places, directions), and those of the neighbours of each side by side; 0 beyond the ends."""
    wide = pad(along, (0, 0, _REACH, _REACH))
    shifts = [o for o in range(2 * _REACH + 1) if o != _REACH]
    return along, torch.cat([wide[o : o + len(along)] for o in shifts], 1)


def _states(embedder: Embedder, examples: Sequence[Example]) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """The place of each example, and its own states that enter the first block and leave the last."""
    model, modality = embedder.model, embedder.modality
    with evaluating(model):
        for chosen in buckets([modality.length(e) for e in examples], embedder.most_together(_BATCH)):
            batch = to_device(modality.pad([examples[i] for i in chosen]), model.device)
            found = position_states(model, batch)
            for row, i in enumerate(chosen):
                (first, own), (last, kept) = ((s[row], real[row]) for s, real in (found[0], found[-1]))
                yield i, (first[own].float(), last[kept].float())
