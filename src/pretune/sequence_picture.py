"""An explained sequence as a picture: its letters as tall as their scores, and below them every substitution."""

from __future__ import annotations

__all__ = ["draw"]

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pretune.heat_map import AGAINST, FOR
from pretune.letter_shapes import add_letters, colour_of
from pretune.plots import blank, image_of
from pretune.sequence_explanation import ROW, SequenceExplanation

_DPI, _WIDE, _LOGO = 200, 7.5, 0.95
_CELL, _LEAST = 0.095, 0.45
"""Inches a row of the heat map, and least of a heat map."""


def draw(explanation: SequenceExplanation) -> Image.Image:
    """Draws rows of 80 letters, 1500 pixels wide, the page twice enlarged; positions count from 1 in the record."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    letters, table = explanation.letters, _table(explanation)
    width = min(ROW, max(20, len(letters)))
    rows = max(1, -(-len(letters) // width))
    heights = [_LOGO] if table is None else [_LOGO, max(_LEAST, _CELL * table.shape[1])]
    layout = ConstrainedLayoutEngine(hspace=0.02, h_pad=0.03)
    figure = blank(figsize=(_WIDE, rows * (sum(heights) + 0.4) + 0.3), dpi=_DPI, layout=layout)
    grid = figure.subplots(rows * len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights * rows})[:, 0]
    image = None
    for row in range(rows):
        axes = grid[row * len(heights) : (row + 1) * len(heights)]
        _logo(axes[0], explanation, row * width, width)
        if table is not None:
            axes[0].tick_params(labelbottom=False)
            image = _heat(axes[1], explanation, table, row * width, width)
    if image is not None:
        bar = figure.colorbar(image, ax=list(grid), location="top", aspect=60, shrink=0.5, pad=0.01)
        bar.set_label("change of the target by a substitution (dot: the record's own letter)", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return image_of(figure)


def _table(explanation: SequenceExplanation) -> NDArray[np.float64] | None:
    """Changes of the target, (letters, substitutes)."""
    return np.array(explanation.mutations, np.float64) if explanation.mutations else None


def _logo(axes: Any, explanation: SequenceExplanation, start: int, width: int) -> None:
    scores = np.array([s for _, s in explanation.letters] or [0.0])
    most = float(np.abs(scores).max()) or 1.0
    shown = enumerate(explanation.letters[start : start + width], start + explanation.first + 1)
    add_letters(axes, [(c, at, 0.0, s) for at, (c, s) in shown if s], explanation.alphabet)
    axes.axhline(0, color="0.4", linewidth=0.6)
    low = min(0.0, float(scores.min()))
    axes.set_ylim(low - 0.06 * most, max(0.0, float(scores.max())) + 0.06 * most)
    axes.set_ylabel("score", fontsize=8)
    axes.locator_params(axis="y", nbins=4)
    _positions(axes, explanation, start, width)
    axes.spines[["top", "right"]].set_visible(False)


def _heat(axes: Any, explanation: SequenceExplanation, table: NDArray[np.float64], start: int, width: int) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    names = explanation.substitutes or []
    ends = [tuple(c / 255 for c in colour) for colour in (AGAINST, FOR)]
    colours = LinearSegmentedColormap.from_list("change", [ends[0], (1.0, 1.0, 1.0), ends[1]])
    most, part = float(np.abs(table).max()) or 1.0, table[start : start + width]
    first = start + explanation.first
    image = axes.imshow(
        part.T,
        cmap=colours,
        vmin=-most,
        vmax=most,
        aspect="auto",
        interpolation="nearest",
        extent=(first + 0.5, first + len(part) + 0.5, len(names) - 0.5, -0.5),
    )
    own = [
        (first + i + 1, names.index(c)) for i, c in enumerate(explanation.words[start : start + width]) if c in names
    ]
    if own:
        axes.plot(*zip(*own, strict=True), ".", color="0.45", markersize=2.2)
    axes.set_yticks(range(len(names)), names)
    _positions(axes, explanation, start, width)
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=7 if len(names) < 8 else 5)
    for label in axes.get_yticklabels():
        label.set(color=colour_of(label.get_text(), explanation.alphabet), fontweight="bold")
    return image


def _positions(axes: Any, explanation: SequenceExplanation, start: int, width: int) -> None:
    """The axis of positions, and lines around the letters that the target is said of."""
    first = start + explanation.first + 1
    axes.set_xlim(first - 0.6, first + width - 0.4)
    last = explanation.first + len(explanation.letters)
    axes.set_xticks([p for p in range(first, first + width) if (p % 10 == 0 or p == 1) and p <= last])
    axes.tick_params(labelsize=7)
    for edge in explanation.span or ():
        axes.axvline(explanation.first + edge + 0.5, color="black", linewidth=0.8, linestyle=(0, (3, 2)))
