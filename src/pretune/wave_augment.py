"""SpecAugment and noise for sound: drawn before normalisation and applied after it, so that what is hidden is 0."""

from __future__ import annotations

__all__ = ["changed", "hide"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune import mel
from pretune.modalities.base import Batch, Example

_SPANS, _BANDS = "hidden_spans", "hidden_bands"


def changed(example: Example, rng: np.random.Generator, *, strong: bool) -> Example:
    """A copy of an example that says what `hide` must hide, with noise if it is `strong`.

    Args:
        example: With ``input_values``.
        rng: Draws everything.
        strong: Wider spans, and noise in half of the copies, 5 to 30 dB below the recording.
    """
    wide = 0.2 if strong else 0.1
    drawn = example | {_SPANS: _pieces(rng, 2, wide), _BANDS: _pieces(rng, 2, 0.2 if strong else 0.15)}
    if strong and rng.random() < 0.5:
        drawn["input_values"] = _noisy(example["input_values"], rng)
    return drawn


def _pieces(rng: np.random.Generator, number: int, most: float) -> NDArray[np.float64]:
    """Starts and ends in 0..1, each piece up to `most` wide, (number, 2)."""
    width = rng.uniform(0, most, number)
    start = rng.uniform(0, 1 - width)
    return np.stack((start, start + width), axis=1)


def _noisy(samples: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.int16]:
    power = float(np.mean(samples.astype(np.float64) ** 2)) / 10 ** (rng.uniform(5, 30) / 10)
    noisy = samples + np.sqrt(power) * rng.standard_normal(len(samples))
    return np.clip(np.round(noisy), -(2**15), 2**15 - 1).astype(np.int16)


def hide(batch: Batch, examples: Sequence[Example], *, main_input: str, rate: int) -> None:
    """Sets what the examples want hidden to 0, the mean, in place: mel bins, or frequencies of a waveform."""
    if _SPANS not in examples[0]:
        return
    values: Tensor = batch[main_input]
    lengths = batch["attention_mask"].sum(1).tolist()
    for row, length, example in zip(values, lengths, examples, strict=True):
        if row.ndim == 2:
            bins = row.unflatten(1, (-1, mel.BINS))  # a view: windows of 10 ms in a frame, bins
            for low, high in _indices(example[_BANDS], mel.BINS):
                bins[..., low:high] = 0
        else:
            row[:length] = _without(row[:length], example[_BANDS], rate)
        for start, end in _indices(example[_SPANS], length):
            row[start:end] = 0


def _indices(pieces: Any, number: int) -> list[tuple[int, int]]:
    return [(int(a * number), int(b * number)) for a, b in pieces]


def _without(wave: Tensor, bands: NDArray[np.float64], rate: int) -> Tensor:
    """A waveform without bands that are shares of the mel scale."""
    spectrum = torch.fft.rfft(wave)
    top = 1127 * np.log(1 + rate / 2 / 700)
    for low, high in 700 * (np.exp(bands * top / 1127) - 1) / (rate / 2) * len(spectrum):
        spectrum[int(low) : int(high)] = 0
    return torch.fft.irfft(spectrum, n=len(wave))
