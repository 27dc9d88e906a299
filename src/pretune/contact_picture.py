"""A protein's contact map as a picture."""

from __future__ import annotations

__all__ = ["contact_picture"]

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretune.plots import blank, write_png


def contact_picture(
    probabilities: NDArray[np.float64], contacts: Sequence[Sequence[float]], file: Path, *, threshold: float = 0.5
) -> Path:
    """Draws a map: above the diagonal how probable each contact is, below it those that are predicted.

    Args:
        probabilities: Shape (residues, residues); NaN (grey) for pairs that no window has seen.
        contacts: ``(i, j, probability)``, counted from 1.
        file: PNG to write (atomically).
        threshold: Probability above which a contact is predicted.
    """
    figure = blank(figsize=(6.4, 5.6))
    axes = figure.subplots()
    axes.set_facecolor("0.85")
    length = len(probabilities)
    upper = np.ma.masked_invalid(np.where(np.triu(np.ones((length, length), bool)), probabilities, 0.0))
    ends = (0.5, length + 0.5)
    image = axes.imshow(upper, cmap="Blues", vmin=0, vmax=max(0.2, upper.max()), extent=(*ends, *ends[::-1]))
    pairs = np.array([[i, j] for i, j, p in contacts if p > threshold]).reshape(-1, 2)
    axes.scatter(pairs[:, 0], pairs[:, 1], s=max(2.0, 600 / length), marker="s", color="black", linewidths=0)
    axes.set(xlabel="residue", ylabel=f"residue (black: above {threshold:g})", xlim=ends, ylim=ends[::-1])
    figure.colorbar(image, ax=axes, label="probability of a contact", fraction=0.045)
    return write_png(figure, file, dpi=120, bbox_inches="tight")
