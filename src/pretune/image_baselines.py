"""The classical baselines of images: linear models of pixels or of histograms of oriented gradients."""

from __future__ import annotations

__all__ = ["for_task", "gradient_histograms", "pixels"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.preprocessing import StandardScaler

from pretune import baselines
from pretune.classical import Classical, valued
from pretune.image_reading import picture
from pretune.tasks.base import Task

_SIDE, _CELL, _DIRECTIONS = 32, 8, 9


def for_task(task: Task) -> Classical | None:
    """The baseline of a task on images; None where there is none."""
    if task.name == "classification" and not getattr(task, "multi_label", False):
        return Classical(
            "logistic regression on pixels or gradients",
            lambda rows, labels, test, seed: baselines.logistic(
                _candidates(), _squares(rows), labels, _squares(test), seed
            ),
        )
    if task.name == "regression":
        return Classical(
            "ridge regression on pixels or gradients",
            lambda rows, values, test, seed: valued(
                baselines.ridge(_candidates(), _squares(rows), values, _squares(test), seed)
            ),
        )
    return None


def _squares(rows: Sequence[Mapping[str, Any]]) -> list[NDArray[np.float64]]:
    """Each picture as 32 x 32 x colours from 0 to 1."""
    return [
        np.asarray(picture(r["image"]).convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)) / 255
        for r in rows
    ]


def pixels(square: NDArray[np.float64]) -> NDArray[np.float64]:
    """All values of a picture, (side * side * colours,)."""
    return square.reshape(-1)


def gradient_histograms(square: NDArray[np.float64]) -> NDArray[np.float64]:
    """Histograms of oriented gradients (Dalal and Triggs 2005), of the colour with the steepest gradient.

    Args:
        square: (side, side, colours), the side a multiple of 8.

    Returns:
        Nine directions in each cell of 8 x 8 pixels, normalised (L2) over blocks of 2 x 2 cells that overlap, and flat.
    """
    down, right = np.gradient(square, axis=(0, 1))
    strength = np.hypot(down, right)
    steepest = strength.argmax(-1)[..., None]
    size = np.take_along_axis(strength, steepest, -1)[..., 0]
    angle = np.take_along_axis(np.arctan2(down, right), steepest, -1)[..., 0]
    direction = (np.floor(angle % np.pi / np.pi * _DIRECTIONS).astype(int)) % _DIRECTIONS
    votes = np.eye(_DIRECTIONS)[direction] * size[..., None]
    count = len(square) // _CELL
    cells = votes.reshape(count, _CELL, count, _CELL, _DIRECTIONS).sum((1, 3))
    blocks = np.lib.stride_tricks.sliding_window_view(cells, (2, 2), axis=(0, 1)).reshape((count - 1) ** 2, -1)
    return (blocks / np.sqrt((blocks**2).sum(1, keepdims=True) + 1e-6)).reshape(-1)


def _candidates() -> list[_Features]:
    return [_Features(pixels), _Features(gradient_histograms)]


class _Features:
    """Standardised features of squares."""

    def __init__(self, describe: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> None:
        self.describe = describe
        self.scaler = StandardScaler()

    def fit(self, squares: Sequence[NDArray[np.float64]]) -> Any:
        return self.scaler.fit_transform(np.stack([self.describe(s) for s in squares])) / _SIDE

    def transform(self, squares: Sequence[NDArray[np.float64]]) -> Any:
        return self.scaler.transform(np.stack([self.describe(s) for s in squares])) / _SIDE
