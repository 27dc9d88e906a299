"""What vectors say about the encoder that made them: do they collapse, do neighbours share a label."""

from __future__ import annotations

__all__ = ["collapsed", "effective_rank", "neighbour_accuracy", "spread"]

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

_LEAST_RANK, _LEAST_SPREAD = 2.0, 1e-3


def effective_rank(vectors: Tensor) -> float:
    """How many directions the vectors (number, width) use: RankMe (Garrido et al. 2023), about their mean.

    The exponential of the entropy of the singular values, from 1 to the smaller of number - 1 and width. The mean is
    taken out first: a large common part would hide whether anything else is left.
    """
    values = torch.linalg.svdvals((vectors - vectors.mean(0)).double())
    shares = values / values.sum().clamp(min=1e-300)
    return float(torch.special.entr(shares).sum().exp())


def spread(vectors: Tensor) -> float:
    """Share of the squared length of vectors (number, width) that differs between them, 0 (all equal) to 1."""
    vectors = vectors.double()
    total = vectors.square().sum().clamp(min=1e-300)
    return float((vectors - vectors.mean(0)).square().sum() / total)


def collapsed(metrics: Mapping[str, float]) -> bool:
    """Whether `effective_rank` and `spread` in `metrics` show vectors that are all the same, or lie on one line."""
    return metrics["effective_rank"] < _LEAST_RANK or metrics["spread"] < _LEAST_SPREAD


def neighbour_accuracy(vectors: Tensor, labels: Sequence[str], *, num_neighbours: int = 10) -> float:
    """Share of the vectors whose most similar others, by cosine and one vote each, mostly have the same label.

    Every vector is left out in turn, so no second set is needed. Vectors are centred first; a tie goes to the label
    that comes first in alphabetical order.
    """
    names, numbers = np.unique(np.asarray(labels), return_inverse=True)
    truth = torch.from_numpy(numbers)
    unit = torch.nn.functional.normalize(vectors - vectors.mean(0), dim=1)
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
    nearest = truth[similarity.topk(min(num_neighbours, len(truth) - 1), dim=1).indices]
    votes = torch.nn.functional.one_hot(nearest, len(names)).sum(1)
    return float((votes.argmax(1) == truth).float().mean())
