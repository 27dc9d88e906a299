"""Pictures, written as PNG."""

from __future__ import annotations

__all__ = ["confusion_picture"]

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COUNTS_UP_TO = 25


def confusion_picture(labels: Sequence[str], counts: NDArray[np.int64], file: Path) -> Path:
    """Draws a confusion matrix: shade is the share of the true label's records, the number is the count.

    Args:
        labels: Names of rows and columns, shape (labels,).
        counts: True label by predicted label, shape (labels, labels).
        file: PNG to write (atomically).
    """
    # the object interface: no pyplot, so no global state, no display, no backend choice
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = 2.2 + min(16.0, 0.55 * len(labels)) + 0.07 * max(map(len, labels))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="true")
    if len(labels) <= _COUNTS_UP_TO:
        _write_counts(axes, counts, shares)
    figure.colorbar(image, ax=axes, label="share of the true label", fraction=0.045)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    figure.savefig(part, dpi=150, format="png")
    return part.replace(file)


def _write_counts(axes: Any, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    size = 10 if len(counts) <= 12 else 7
    for (i, j), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, f"{count:,}", ha="center", va="center", color=colour, fontsize=size)
