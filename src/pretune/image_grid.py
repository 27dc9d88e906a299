"""Pictures in rows and columns, for the run directory."""

from __future__ import annotations

__all__ = ["grid", "labelled_rows"]

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

_GAP, _LABEL_HEIGHT, _SHOWN = 2, 16, 64


def grid(images: Tensor, *, num_columns: int) -> Image.Image:
    """One picture of many.

    Args:
        images: (number, channels, height, width), 0 to 1, with 1 or 3 channels.
        num_columns: Pictures in a row.
    """
    pixels = (images.detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    pixels = np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels
    factor = max(1, _SHOWN // pixels.shape[1])  # small images are enlarged without smoothing: they are pixels
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = pixels.shape[1] + _GAP, pixels.shape[2] + _GAP
    num_rows = -(-len(pixels) // num_columns)
    canvas = np.full((num_rows * height + _GAP, num_columns * width + _GAP, 3), 255, np.uint8)
    for number, image in enumerate(pixels):
        y, x = _GAP + number // num_columns * height, _GAP + number % num_columns * width
        canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
    return Image.fromarray(canvas)


def labelled_rows(rows: Mapping[str, Tensor]) -> Image.Image:
    """Rows of pictures below each other, each with its name above: originals, reconstructions ...

    Args:
        rows: For each name, (number, channels, height, width), 0 to 1; all of one shape.
    """
    strips = {name: grid(images, num_columns=len(images)) for name, images in rows.items()}
    width = max(s.width for s in strips.values())
    height = sum(s.height + _LABEL_HEIGHT for s in strips.values())
    canvas = Image.new("RGB", (width, height), "white")
    draw, y = ImageDraw.Draw(canvas), 0
    for name, strip in strips.items():
        draw.text((_GAP, y + 2), name, fill="black")
        canvas.paste(strip, (0, y + _LABEL_HEIGHT))
        y += strip.height + _LABEL_HEIGHT
    return canvas
