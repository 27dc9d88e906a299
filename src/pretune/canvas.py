"""The rectangle that images of any size are fitted into, with their boxes and masks, and its augmentation."""

from __future__ import annotations

__all__ = ["Canvas", "View", "place", "random_views", "seen_boxes", "seen_images", "seen_masks"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

_MULTIPLE = 8


@dataclass(frozen=True)
class Canvas:
    """A working size. Images keep their proportions; they lie at the top left and the rest is filled.

    Attributes:
        height: In pixels.
        width: In pixels.
    """

    height: int
    width: int

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, int]], longer: int) -> Canvas:
        """The canvas of the median shape of images.

        Args:
            sizes: (height, width) of each image.
            longer: Its longer side.
        """
        ratio = float(np.median([width / height for height, width in sizes]))
        height, width = (longer / ratio, longer) if ratio >= 1 else (longer, longer * ratio)
        return cls(*(max(_MULTIPLE, _MULTIPLE * round(side / _MULTIPLE)) for side in (height, width)))

    def scale(self, size: Sequence[int]) -> float:
        """Canvas pixels a pixel of an image of `size` (height, width)."""
        return min(self.height / size[0], self.width / size[1])

    def covered(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the canvas that an image of `size` (height, width) fills."""
        scale = self.scale(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def fit(self, pixels: NDArray[np.uint8], fill: Sequence[int]) -> NDArray[np.uint8]:
        """An image (height, width, channels), resized with antialiasing; `fill` is the colour of the rest."""
        return self._laid(pixels, fill, Image.Resampling.BILINEAR)

    def fit_mask(self, mask: NDArray[np.uint8], fill: int) -> NDArray[np.uint8]:
        """A mask (height, width) of classes, resized to the nearest; `fill` is the class of the rest."""
        return self._laid(mask[..., None], [fill], Image.Resampling.NEAREST)[..., 0]

    def _laid(self, pixels: NDArray[np.uint8], fill: Sequence[int], filter_: Image.Resampling) -> NDArray[np.uint8]:
        rows, columns = self.covered(pixels.shape[:2])
        whole = np.empty((self.height, self.width, pixels.shape[2]), np.uint8)
        whole[:] = np.asarray(fill, np.uint8)
        image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0])
        resized = np.asarray(image.resize((columns, rows), filter_))
        whole[:rows, :columns] = resized if resized.ndim == 3 else resized[..., None]
        return whole


@dataclass(frozen=True)
class View:
    """What part of each canvas of a batch is seen, at canvas size.

    Attributes:
        boxes: Left, top, width and height of each part, shape (batch, 4); it may reach outside.
        mirrored: Shape (batch,).
    """

    boxes: Tensor
    mirrored: Tensor


def random_views(
    rng: np.random.Generator, canvas: Canvas, num: int, *, zoom: float, stretch: float, mirror: bool
) -> View:
    """Draws parts of all sizes and places.

    Args:
        rng: Draws.
        canvas: Its size.
        num: Number of images.
        zoom: Parts are enlarged by a factor from 1 / zoom to zoom.
        stretch: Proportions change by a factor from 1 / stretch to stretch.
        mirror: Whether half of them are mirrored.
    """
    zooms = np.exp(rng.uniform(-1, 1, num) * math.log(zoom))
    shapes = np.exp(rng.uniform(-0.5, 0.5, num) * math.log(stretch))
    wide, high = canvas.width / zooms * shapes, canvas.height / zooms / shapes
    left, top = (rng.random(num) * (canvas.width - wide), rng.random(num) * (canvas.height - high))
    mirrored = rng.random(num) < (0.5 if mirror else 0.0)
    boxes = torch.from_numpy(np.stack([left, top, wide, high], axis=1).astype(np.float32))
    return View(boxes, torch.from_numpy(mirrored))


def seen_images(images: Tensor, view: View, mode: str = "bilinear") -> Tensor:
    """The views of images (batch, channels, height, width), floats; outside of them there are zeros."""
    height, width = images.shape[-2:]
    left, top, wide, high = view.boxes.unbind(1)
    zero, sign = torch.zeros_like(left), torch.where(view.mirrored, -1.0, 1.0)
    across = torch.stack([sign * wide / width, zero, (2 * left + wide) / width - 1], dim=1)
    down = torch.stack([zero, high / height, (2 * top + high) / height - 1], dim=1)
    shape = [len(images), images.shape[1], height, width]
    grid = F.affine_grid(torch.stack([across, down], dim=1), shape, align_corners=False)
    return F.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)


def seen_masks(masks: Tensor, view: View, outside: int) -> Tensor:
    """The views of masks (batch, height, width) of classes, to the nearest; `outside` is the class around them."""
    shifted = (masks - outside).float()[:, None]
    return seen_images(shifted, view, "nearest")[:, 0].round().to(masks.dtype) + outside


def seen_boxes(boxes: Tensor, view: View, canvas: Canvas) -> tuple[Tensor, Tensor]:
    """The views of boxes (batch, number, 4) of corners; also which share of each is seen (batch, number)."""
    left, top, wide, high = (v[:, None] for v in view.boxes.unbind(1))
    x1, y1, x2, y2 = boxes.unbind(-1)
    x1, x2 = ((x - left) * canvas.width / wide for x in (x1, x2))
    y1, y2 = ((y - top) * canvas.height / high for y in (y1, y2))
    mirrored = view.mirrored[:, None]
    x1, x2 = torch.where(mirrored, canvas.width - x2, x1), torch.where(mirrored, canvas.width - x1, x2)
    moved = torch.stack([x1, y1, x2, y2], dim=-1)
    clipped = place(moved, canvas.height, canvas.width)
    return clipped, _area(clipped) / _area(moved).clamp(min=1e-6)


def place(boxes: Tensor, height: float, width: float) -> Tensor:
    """Boxes (..., 4) of corners, cut at the border of an image."""
    limits = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
    return torch.minimum(boxes.clamp(min=0), limits)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)
