"""Batched augmentation of images in torch ops; what is drawn comes from a NumPy generator, so steps can be replayed."""

from __future__ import annotations

__all__ = ["blur", "color_jitter", "grayscale", "horizontal_flip", "random_resized_crop", "resized_crop", "shift"]

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def resized_crop(images: Tensor, boxes: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Cuts one box out of each image and resizes it, bilinearly and in one pass for the whole batch.

    Args:
        images: (B, C, H, W), uint8 or float.
        boxes: (B, 4): top, left, height and width in pixels, fractions allowed; what lies outside repeats the border.
        size: Side of the results, or (height, width). Boxes much larger than it are not smoothed first.

    Returns:
        (B, C, height, width) of the dtype of `images`.
    """
    high, wide = (size, size) if isinstance(size, int) else size
    height, width = images.shape[-2:]
    top, left, box_height, box_width = boxes.to(images.device, torch.float32).unbind(1)
    zero = torch.zeros_like(top)
    across = torch.stack([box_width / width, zero, (2 * left + box_width) / width - 1], dim=1)
    down = torch.stack([zero, box_height / height, (2 * top + box_height) / height - 1], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), [len(images), 1, high, wide], align_corners=False)
    found = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return _like(found, images)


def random_resized_crop(
    images: Tensor,
    rng: np.random.Generator,
    *,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    size: int | tuple[int, int] | None = None,
) -> Tensor:
    """A random box of each image, resized (Szegedy et al. 2015).

    Args:
        images: (B, C, H, W), uint8 or float.
        rng: Draws the boxes.
        scale: Least and most share of the area.
        ratio: Least and most width to height.
        size: See `resized_crop`; None keeps that of the images.
    """
    num, (height, width) = len(images), images.shape[-2:]
    area = rng.uniform(*scale, num) * height * width
    aspect = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), num))
    wide = np.minimum(np.sqrt(area * aspect), width)
    high = np.minimum(np.sqrt(area / aspect), height)
    top, left = rng.random(num) * (height - high), rng.random(num) * (width - wide)
    boxes = torch.from_numpy(np.stack([top, left, high, wide], axis=1).astype(np.float32))
    return resized_crop(images, boxes, (height, width) if size is None else size)


def horizontal_flip(images: Tensor, rng: np.random.Generator, rate: float = 0.5) -> Tensor:
    """Mirrors a share of the images (B, C, H, W), left to right."""
    return _mixed(images.flip(-1), images, rng.random(len(images)) < rate)


def shift(images: Tensor, rng: np.random.Generator, pixels: int) -> Tensor:
    """Moves each image by up to `pixels` in both directions; the border is repeated. Exact: no pixel is blended."""
    moves = np.split(rng.integers(-pixels, pixels + 1, (len(images), 2)), 2, axis=1)
    rows, columns = (np.clip(np.arange(n) + m, 0, n - 1) for n, m in zip(images.shape[-2:], moves, strict=True))
    source = images.cpu().numpy()
    found = np.empty_like(source)
    # image by image: one gather of all pixels takes four to eight times as long
    for moved, image, row, column in zip(found, source, rows, columns, strict=True):
        moved[...] = image[:, row][:, :, column]
    return torch.from_numpy(found).to(images.device)


def color_jitter(
    images: Tensor,
    rng: np.random.Generator,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.0,
    rate: float = 1.0,
) -> Tensor:
    """Changes brightness, contrast, saturation and hue of a share of the images.

    Args:
        images: (B, C, H, W), uint8, or float from 0 to 1.
        rng: Draws the changes.
        brightness: Factors are drawn from 1 - brightness to 1 + brightness; so for contrast and saturation.
        contrast: About the image's mean luminance.
        saturation: About grey; colour images only.
        hue: Largest turn of the colour circle, 0 to 0.5; colour images only.
        rate: Share of images that are changed.
    """
    factors = [1 + rng.uniform(-f, f, len(images)) for f in (brightness, contrast, saturation)]
    turns = 2 * math.pi * rng.uniform(-hue, hue, len(images))

    def change(part: Tensor, index: np.ndarray) -> Tensor:
        whole = 255 if images.dtype == torch.uint8 else 1
        bright, strong, colourful = (_column(f[index], part) for f in factors)
        x = (part / whole).mul_(bright).clamp_(0, 1)
        mean = _luminance(x).mean((-2, -1), keepdim=True)
        x.sub_(mean).mul_(strong).add_(mean).clamp_(0, 1)
        if x.shape[1] == 3:
            grey = _luminance(x)
            x.sub_(grey).mul_(colourful).add_(grey).clamp_(0, 1)
            x = _turned(x, _column(turns[index], x)).clamp_(0, 1) if hue else x
        return x.mul_(whole)

    return _some(images, rng.random(len(images)) < rate, change)


def grayscale(images: Tensor, rng: np.random.Generator, rate: float = 0.2) -> Tensor:
    """Takes the colour out of a share of the images, which keep their number of channels."""
    chosen = rng.random(len(images)) < rate
    return _some(images, chosen & (images.shape[1] == 3), lambda part, _: _luminance(part).expand_as(part))


def blur(
    images: Tensor, rng: np.random.Generator, rate: float = 0.5, *, sigma: tuple[float, float] = (0.1, 2.0)
) -> Tensor:
    """Smooths a share of the images by Gaussians of random width.

    Args:
        images: (B, C, H, W), uint8 or float.
        rng: Draws which and how much.
        rate: Share of images that are smoothed.
        sigma: Least and most standard deviation in pixels.
    """
    widths, chosen = rng.uniform(*sigma, len(images)), rng.random(len(images)) < rate

    def change(part: Tensor, index: np.ndarray) -> Tensor:
        num, channels, height, width = part.shape
        radius = max(1, min(math.ceil(2 * sigma[1]), min(height, width) - 1))
        offsets = torch.arange(-radius, radius + 1, device=part.device, dtype=torch.float32)
        deviation = _column(widths[index], part)[:, :, 0, 0]
        kernel = (-0.5 * (offsets / deviation) ** 2).softmax(-1).repeat_interleave(channels, 0)
        flat = F.pad(part.reshape(1, num * channels, height, width), [radius] * 4, mode="reflect")
        flat = F.conv2d(flat, kernel[:, None, :, None], groups=num * channels)
        return F.conv2d(flat, kernel[:, None, None, :], groups=num * channels).reshape(part.shape)

    return _some(images, chosen, change)


def _some(images: Tensor, chosen: np.ndarray, change: Callable[[Tensor, np.ndarray], Tensor]) -> Tensor:
    """The images with some of them changed by what gets those, as floats, and their numbers."""
    index = np.flatnonzero(chosen)
    if not len(index):
        return images
    found, where = images.clone(), torch.from_numpy(index).to(images.device)
    found[where] = _like(change(images[where].float(), index), images)
    return found


def _like(found: Tensor, images: Tensor) -> Tensor:
    """Values of the dtype of `images`; bytes are rounded."""
    return found.round().clamp_(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else found.to(images.dtype)


def _column(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(like.device)[:, None, None, None]


def _mixed(changed: Tensor, images: Tensor, chosen: np.ndarray) -> Tensor:
    return torch.where(torch.from_numpy(chosen).to(images.device)[:, None, None, None], changed, images)


def _luminance(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = torch.tensor(_LUMA, device=images.device)[:, None, None]
    return (images * weights).sum(1, keepdim=True)


def _turned(images: Tensor, angle: Tensor) -> Tensor:
    """Rotates the chroma plane of YIQ by an angle an image: one matrix an image."""
    to_yiq = torch.tensor(_YIQ)
    from_yiq, to_yiq = (m.to(images.device) for m in (torch.linalg.inv(to_yiq), to_yiq))
    cos, sin, one, zero = angle.cos(), angle.sin(), torch.ones_like(angle), torch.zeros_like(angle)
    rows = ((one, zero, zero), (zero, cos, -sin), (zero, sin, cos))
    turn = torch.stack([torch.cat(row, dim=-1) for row in rows], dim=-2).flatten(0, 2)
    matrix = from_yiq @ turn @ to_yiq
    return torch.bmm(matrix, images.flatten(2)).reshape(images.shape)
