"""Random views of images for objectives that compare views."""

from __future__ import annotations

__all__ = ["Views"]

import numpy as np
from torch import Tensor

from pretune import augment
from pretune.limits import check_range


class Views:
    """A random crop, a mirror image, other colours, sometimes no colour (Chen et al. 2020).

    Args:
        flip_rate: Share of the views that are mirrored.
        jitter: Strength of the changes of brightness, contrast and colour; 0 is off.
        grayscale_rate: Share of the views that lose their colour.

    Raises:
        ConfigError: A value out of range.
    """

    def __init__(self, *, flip_rate: float, jitter: float, grayscale_rate: float) -> None:
        self.flip_rate = check_range("flip_rate", flip_rate, 0, 1)
        self.jitter = check_range("jitter", jitter, 0, 1)
        self.grayscale_rate = check_range("grayscale_rate", grayscale_rate, 0, 1)

    def __call__(
        self, images: Tensor, rng: np.random.Generator, scale: tuple[float, float], size: int | None = None
    ) -> Tensor:
        """Views (batch, channels, size, size) of uint8 images, still uint8; `scale` bounds the area of the crop."""
        found = augment.random_resized_crop(images, rng, scale=scale, size=size)
        if self.flip_rate:
            found = augment.horizontal_flip(found, rng, self.flip_rate)
        if self.jitter:
            s = 0.8 * self.jitter
            found = augment.color_jitter(
                found, rng, brightness=s, contrast=s, saturation=s, hue=0.2 * self.jitter, rate=0.8
            )
        return augment.grayscale(found, rng, self.grayscale_rate) if self.grayscale_rate else found
