"""Images as rows of square patches, and where the patches are."""

from __future__ import annotations

__all__ = ["cut", "grid_positions", "joined"]

import math

import torch
from torch import Tensor


def cut(images: Tensor, patch: int) -> Tensor:
    """Patches of images (batch, channels, height, width), row by row.

    Returns:
        (batch, patches, patch * patch * channels); the channel varies fastest, as in transformers' ViTMAE.
    """
    batch, channels, height, width = images.shape
    tiles = images.view(batch, channels, height // patch, patch, width // patch, patch)
    return tiles.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def joined(patches: Tensor, patch: int, num_channels: int) -> Tensor:
    """The square images (batch, channels, height, width) that `cut` took apart."""
    side = math.isqrt(patches.shape[1])
    tiles = patches.view(len(patches), side, side, patch, patch, num_channels)
    return tiles.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), num_channels, side * patch, side * patch)


def grid_positions(num_patches: int, width: int) -> Tensor:
    """Fixed sine and cosine positions of a square grid, (patches, width), each coordinate in half of the width.

    The layout is MAE's (He et al. 2022): sine and cosine of the column, then of the row.
    """
    side, quarter = math.isqrt(num_patches), width // 4
    rates = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(side, dtype=torch.float64)[:, None] * rates
    waves = torch.cat((angles.sin(), angles.cos()), dim=1)
    columns, rows = waves.repeat(side, 1), waves.repeat_interleave(side, dim=0)
    return torch.cat((columns, rows), dim=1).float()
