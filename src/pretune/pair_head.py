"""Heads that say something about every pair of residues: from their states, or from attention between them."""

from __future__ import annotations

__all__ = ["AttentionHead", "PairwiseHead", "start_weights"]

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from pretune.contact_maps import average_product_correction

_NEAR = 32
"""Separations up to here have an embedding each; beyond it one for each half octave."""

_NUM_SEPARATIONS = _NEAR + 13


class _Linear(nn.Linear):
    """A projection of the head, which starts differently from the encoder's."""


class _Convolution(nn.Conv2d):
    """A convolution of the head."""


class _Outputs(nn.Linear):
    """The last layer; `start` is where its bias starts: how frequent each answer is."""

    def __init__(self, width: int, start: Sequence[float]) -> None:
        super().__init__(width, len(start))
        self.start = list(start)


@torch.no_grad()
def start_weights(module: nn.Module) -> bool:
    """Gives a module of a pair head its first weights; False where it is none."""
    if isinstance(module, _Outputs):
        init.normal_(module.weight, std=0.01)
        init.copy_(cast(Tensor, module.bias), torch.tensor(module.start))
    elif isinstance(module, _Linear):
        init.xavier_uniform_(module.weight)
        if module.bias is not None:
            init.zeros_(module.bias)
    elif isinstance(module, _Convolution):
        init.kaiming_normal_(module.weight, nonlinearity="relu")
        init.zeros_(cast(Tensor, module.bias))
    else:
        return False
    return True


class PairwiseHead(nn.Module):
    """Symmetric features of two states and of their separation, then convolutions over the map.

    Args:
        hidden_size: Of the states.
        width: Channels of a pair.
        num_convolutions: Residual 3 x 3 blocks, each second one dilated by 2; none: every pair on its own.
        bias: Where the bias of each output starts, which gives their number.
    """

    def __init__(self, hidden_size: int, width: int, num_convolutions: int, bias: Sequence[float]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.project = _Linear(hidden_size, width)
        self.total = _Linear(hidden_size, width)
        self.product = _Linear(width, width, bias=False)
        self.difference = _Linear(width, width, bias=False)
        self.separation = nn.Embedding(_NUM_SEPARATIONS, width)
        self.blocks = nn.ModuleList(_Block(width, 1 + k % 2) for k in range(num_convolutions))
        self.outputs = _Outputs(width, bias)
        self.only: tuple[int, int] | None = None
        """Two residues, from 0: then theirs are the only pairs, (batch, 2, 2, outputs). Not with convolutions."""

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """Answers for every pair, symmetric, shape (batch, residues, residues, outputs).

        Args:
            states: Of residues alone, shape (batch, residues, hidden_size).
            real: Which are residues, not padding, shape (batch, residues).
        """
        places = torch.arange(states.shape[1], device=states.device)
        if self.only is not None:
            places = places[list(self.only)]
            states, real = states[:, places], real[:, places]
        # padding has other states where those of a frozen encoder are replayed
        states = self.norm(states.masked_fill(~real[..., None], 0.0))
        one, whole = self.project(states), self.total(states)
        left, right = one[:, :, None], one[:, None]
        pairs = self.product(left * right) + self.difference((left - right).abs())
        pairs = pairs + whole[:, :, None] + whole[:, None] + self.separation(_buckets(places))
        pairs = F.gelu(pairs)
        both = (real[:, :, None] & real[:, None])[..., None].to(pairs.dtype)
        for block in self.blocks:
            pairs = block(pairs, both)
        found = self.outputs(pairs)
        return (found + found.transpose(1, 2)) / 2


class _Block(nn.Module):
    """Normalisation of channels, convolution, activation, beside a short cut; nothing depends on the padding."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution = _Convolution(width, width, 3, padding=dilation, dilation=dilation)
        self.mix = _Linear(width, width)

    def forward(self, pairs: Tensor, both: Tensor) -> Tensor:
        normed = self.norm(pairs) * both
        seen = self.convolution(normed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return pairs + self.mix(F.gelu(seen))


def _buckets(places: Tensor) -> Tensor:
    """Number of each pair's separation, shape (places, places)."""
    apart = (places[:, None] - places).abs()
    far = _NEAR + (2 * torch.log2(apart.clamp(min=_NEAR) / _NEAR)).floor().long()
    return torch.where(apart < _NEAR, apart, far).clamp(max=_NUM_SEPARATIONS - 1)


class AttentionHead(nn.Module):
    """Logistic regression on symmetrised and corrected attention (Rao et al. 2021, "Transformer protein language
    models are unsupervised structure learners").

    It has one weight for each attention head, so that a handful of structures is enough. Maps are multiplied by the
    number of residues, so that their size does not depend on it.

    Args:
        num_maps: Attention heads of all layers together.
        bias: Where the bias of each output starts, which gives their number.
    """

    def __init__(self, num_maps: int, bias: Sequence[float]) -> None:
        super().__init__()
        self.outputs = _Outputs(num_maps, bias)

    def forward(self, attentions: Sequence[Tensor], real: Tensor) -> Tensor:
        """Answers for every pair, shape (batch, residues, residues, outputs).

        Args:
            attentions: Of every layer, between residues alone, shape (batch, heads, residues, residues).
            real: Which are residues, not padding, shape (batch, residues).
        """
        maps = torch.cat(list(attentions), dim=1)
        both = (real[:, :, None] & real[:, None])[:, None]
        maps = (maps + maps.transpose(-1, -2)) * both * real.sum(1)[:, None, None, None]
        return self.outputs(average_product_correction(maps).permute(0, 2, 3, 1))
