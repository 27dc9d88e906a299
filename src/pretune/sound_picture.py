"""An explained recording as a picture: waveform and spectrogram, plain and under the colours of the scores."""

from __future__ import annotations

__all__ = ["draw"]

from typing import Any

import numpy as np
from PIL import Image

from pretune import mel
from pretune.heat_map import AGAINST, FOR
from pretune.plots import blank, image_of
from pretune.sound_explanation import SoundExplanation

_SIZE, _DPI = (10.0, 4.2), 100


def draw(explanation: SoundExplanation) -> Image.Image:
    """Draws the sound on the left and why on the right, 1000 x 420 pixels, axes in seconds and kHz."""
    figure = blank(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, gridspec_kw={"height_ratios": (1, 2.2)})
    for column, why in enumerate((False, True)):
        _waveform(axes[0, column], explanation, why)
        _spectrum(axes[1, column], explanation, why)
        axes[0, column].set_title("why" if why else "what the model heard", fontsize=10)
    axes[1, 0].set_ylabel("kHz")
    return image_of(figure)


def _waveform(axes: Any, explanation: SoundExplanation, why: bool) -> None:
    peaks = explanation.peaks()
    at = np.linspace(0, explanation.seconds, len(peaks))
    axes.fill_between(at, peaks[:, 0], peaks[:, 1], color="0.75" if why else "0.35", linewidth=0)
    if why:
        for (start, end), strength in zip(explanation.windows, explanation.by_time.tolist(), strict=True):
            inside = (at >= start) & (at <= end)
            axes.fill_between(at, peaks[:, 0], peaks[:, 1], where=inside, color=_colour(strength), linewidth=0)
    axes.set(xlim=(0, explanation.seconds), ylim=(-1.05, 1.05), yticks=[])
    _word(axes, explanation)
    _plain(axes)


def _spectrum(axes: Any, explanation: SoundExplanation, why: bool) -> None:
    seconds = explanation.seconds
    shade = explanation.loudness.T * (0.6 if why else 0.9)
    axes.imshow(
        shade, cmap="Greys", vmin=0, vmax=1, origin="lower", aspect="auto", extent=(*explanation.extent, 0, mel.BINS)
    )
    if why:
        edges = [start for start, _ in explanation.windows] + [seconds]
        colours = np.array([[_colour(s, 0.8) for s in row] for row in explanation.strengths.T.tolist()])
        axes.pcolormesh(edges, np.linspace(0, mel.BINS, len(explanation.bands) + 1), colours)
    _word(axes, explanation)
    names, places = zip(*explanation.pitches(), strict=True)
    axes.set_yticks([(100 - p) / 100 * mel.BINS for p in places], [n.removesuffix(" kHz") for n in names])
    axes.set(xlim=(0, seconds), ylim=(0, mel.BINS), xlabel="seconds")
    _plain(axes)


def _colour(strength: float, most: float = 1.0) -> tuple[float, float, float, float]:
    red, green, blue = FOR if strength >= 0 else AGAINST
    return red / 255, green / 255, blue / 255, min(1.0, abs(strength)) * most


def _word(axes: Any, explanation: SoundExplanation) -> None:
    """Lines at the start and the end of the word that is explained."""
    for second in explanation.span or ():
        axes.axvline(second, color="black", linewidth=1, linestyle=(0, (3, 2)))


def _plain(axes: Any) -> None:
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
