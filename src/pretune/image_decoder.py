"""A convolutional decoder: from a short code to an image."""

from __future__ import annotations

__all__ = ["ImageDecoder"]

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

_SMALLEST, _WIDEST = 7, 256


class ImageDecoder(nn.Module):
    """A linear map to a small grid of at most 7 x 7, then doublings up to the image: nearest, 3 x 3 convolution, norm.

    Nearest-neighbour growth leaves no checkerboards (Odena et al. 2016); any image size works.

    Args:
        code_size: Numbers in the code.
        image_size: Height and width of the image.
        num_channels: Of the image.
        width: Channels at full resolution; they double with every halving of the resolution, up to 256.
    """

    def __init__(self, code_size: int, image_size: int, num_channels: int, *, width: int = 32) -> None:
        super().__init__()
        sizes, channels = [image_size], [width]
        while sizes[0] > _SMALLEST:
            sizes.insert(0, (sizes[0] + 1) // 2)
            channels.insert(0, min(_WIDEST, 2 * channels[0]))
        self.sizes = sizes
        self.start = nn.Linear(code_size, channels[0] * sizes[0] ** 2)
        self.stages = nn.ModuleList(_stage(a, b) for a, b in zip(channels[:1] + channels[:-1], channels, strict=True))
        self.out = nn.Conv2d(width, num_channels, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        """Images (batch, channels, height, width) of codes (batch, code_size); any real numbers."""
        grid: Any = self.start(code).view(len(code), -1, self.sizes[0], self.sizes[0])
        for size, stage in zip(self.sizes, self.stages, strict=True):
            if grid.shape[-1] != size:
                grid = F.interpolate(grid, size=(size, size), mode="nearest")
            grid = stage(grid)
        return self.out(grid)


def _stage(before: int, after: int) -> nn.Sequential:
    groups = next(g for g in (8, 4, 2, 1) if after % g == 0)
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(groups, after), nn.SiLU())
