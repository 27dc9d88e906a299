"""Small pictures that stand for a record in lists and on pages."""

from __future__ import annotations

__all__ = ["address", "thumbnail"]

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 96
"""Pixels of the longer side."""


def thumbnail(pixels: NDArray[np.uint8]) -> str:
    """A PNG in base64 of at most 96 x 96 pixels.

    Args:
        pixels: Shape (height, width, channels), 1 or 3 channels.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, format="png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def address(packed: str) -> str:
    """The ``data:`` address that a page can hold."""
    return f"data:image/png;base64,{packed}"
