"""Figures of matplotlib, as pictures in memory or written as PNG; the confusion matrix."""

from __future__ import annotations

__all__ = ["blank", "confusion_picture", "image_of", "write_png"]

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_COUNTS_UP_TO = 25


def blank(**options: Any) -> Any:
    """An empty figure with the options of ``matplotlib.figure.Figure``."""
    # the object interface: no pyplot, so no global state, no display, no backend choice
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(**options)
    FigureCanvasAgg(figure)
    return figure


def image_of(figure: Any) -> Image.Image:
    """A figure as a picture."""
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")


def write_png(figure: Any, file: Path, **options: Any) -> Path:
    """Writes a figure atomically, with the options of ``savefig``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    figure.savefig(part, format="png", **options)
    return part.replace(file)


def confusion_picture(labels: Sequence[str], counts: NDArray[np.int64], file: Path) -> Path:
    """Draws a confusion matrix: shade is the share of the true label's records, the number is the count.

    Args:
        labels: Names of rows and columns, shape (labels,).
        counts: True label by predicted label, shape (labels, labels).
        file: PNG to write (atomically).
    """
    side = 2.2 + min(16.0, 0.55 * len(labels)) + 0.07 * max(map(len, labels))
    figure = blank(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="true")
    if len(labels) <= _COUNTS_UP_TO:
        _write_counts(axes, counts, shares)
    figure.colorbar(image, ax=axes, label="share of the true label", fraction=0.045)
    return write_png(figure, file, dpi=150)


def _write_counts(axes: Any, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    size = 10 if len(counts) <= 12 else 7
    for (i, j), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, f"{count:,}", ha="center", va="center", color=colour, fontsize=size)
