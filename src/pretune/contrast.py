"""What contrastive objectives of all kinds share: the loss over pairs of views, what is logged of them, the head."""

from __future__ import annotations

__all__ = ["geometry", "nt_xent", "paired", "projection_head"]

from math import log

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


def projection_head(width: int, size: int) -> nn.Sequential:
    """From the encoder's vectors to those that are compared (Chen et al. 2020)."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, size))


def paired(first: Tensor, second: Tensor, temperature: float) -> dict[str, Tensor]:
    """NT-Xent, its value by chance, and how often, how near and how evenly views find each other.

    Args:
        first: (n, width), unit length.
        second: (n, width), the partners in the same order.
        temperature: Divides the similarities.
    """
    logs = geometry(first.detach(), second.detach(), (first @ second.T).detach())
    chance = torch.tensor(log(max(1, 2 * len(first) - 1)))  # it depends on the size of the batch
    return {"loss": nt_xent(first, second, temperature), "chance_loss": chance, **logs}


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy: each of the 2n unit vectors must name its partner among the rest.

    Args:
        first: (n, width), unit length.
        second: (n, width), the partners in the same order.
        temperature: Divides the similarities.
    """
    vectors = torch.cat((first, second))
    num = len(first)
    similarity = (vectors @ vectors.T / temperature).fill_diagonal_(-torch.inf)
    partners = torch.arange(2 * num, device=vectors.device).roll(num)
    return F.cross_entropy(similarity, partners)


def geometry(first: Tensor, second: Tensor, similarity: Tensor) -> dict[str, Tensor]:
    """How often views match, how near they are, how evenly vectors spread (Wang and Isola 2020)."""
    num = len(first)
    apart = ~torch.eye(num, dtype=torch.bool, device=first.device)
    distances = (2 - 2 * first @ first.T)[apart] if num > 1 else first.new_zeros(1)
    return {
        "match_accuracy": (similarity.argmax(dim=-1) == torch.arange(num, device=first.device)).float().mean(),
        "alignment": (first - second).square().sum(dim=-1).mean(),
        "uniformity": torch.logsumexp(-2 * distances, dim=0) - np.log(len(distances)),
    }
