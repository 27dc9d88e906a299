"""Spectrograms as a picture: a row for each sort, a column for each recording."""

from __future__ import annotations

__all__ = ["spectrograms"]

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pretune.mel import BINS

_WIDE, _HIGH, _GAP, _LABEL = 300, 120, 6, 70
_SPREAD = 2.5
"""Standard deviations that the colours span to each side."""


def spectrograms(rows: Mapping[str, Sequence[Tensor]]) -> Image.Image:
    """One picture of normalised frames (frames, 80 x windows), time to the right, high frequencies on top."""
    columns = max(len(row) for row in rows.values())
    size = (_LABEL + columns * (_WIDE + _GAP), len(rows) * (_HIGH + _GAP))
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for r, (name, row) in enumerate(rows.items()):
        top = r * (_HIGH + _GAP)
        draw.text((2, top + _HIGH // 2 - 6), name, fill="black", font=ImageFont.load_default(12))
        for c, frames in enumerate(row):
            picture = Image.fromarray(_colours(frames.float().numpy()))
            canvas.paste(picture.resize((_WIDE, _HIGH), Image.Resampling.BILINEAR), (_LABEL + c * (_WIDE + _GAP), top))
    return canvas


def _colours(frames: NDArray[np.float32]) -> NDArray[np.uint8]:
    windows = frames.reshape(-1, BINS)
    shares = np.clip(windows.T[::-1] / (2 * _SPREAD) + 0.5, 0, 1)
    found: NDArray[np.uint8] = (colormaps["magma"](shares)[..., :3] * 255).astype(np.uint8)
    return found
