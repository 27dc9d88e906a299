"""What a model hears as a plane of time and frequency, whose cells can be scored, and hidden from the model."""

from __future__ import annotations

__all__ = ["BANDS", "MelPlane", "Plane", "WavePlane", "band_edges", "cells_of", "edges_hz", "plane_of", "window_edges"]

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from pretune import mel
from pretune.modalities.base import Batch
from pretune.tasks.base import Task

BANDS = 8
"""Bands of equal width on the mel scale: 10 mel bins each."""

_ROWS, _MOST = 10, 60
"""Rows (10 ms each) of a cell where there are not too many cells, and most cells along time."""

_FFT = 512
_LOWEST = 20.0
_PER_BAND = mel.BINS // BANDS


def window_edges(rows: int) -> list[int]:
    """Rows at which the cells begin, and the end of the last: about 100 ms each, longer beyond 6 s."""
    number = min(max(1, round(rows / _ROWS)), _MOST)
    return [round(i * rows / number) for i in range(number + 1)]


def band_edges() -> list[int]:
    """Mel bins at which the bands begin, low frequencies first, and the end of the last."""
    return [i * _PER_BAND for i in range(BANDS + 1)]


def edges_hz(rate: int) -> Tensor:
    """Frequencies between the mel bins, and at their ends, in Hz, shape (81,)."""
    low, high = (1127 * torch.tensor(1 + f / 700).log() for f in (_LOWEST, rate / 2))
    step = (high - low) / (mel.BINS + 1)
    return 700 * (((low + step * (torch.arange(mel.BINS + 1) + 0.5)) / 1127).exp() - 1)


def cells_of(rows: int) -> Tensor:
    """The cell of each row and mel bin, shape (rows, 80): those of one window in turn, low to high."""
    edges = torch.tensor(window_edges(rows))
    window = torch.bucketize(torch.arange(rows), edges[1:], right=True)
    return window[:, None] * BANDS + torch.arange(mel.BINS) // _PER_BAND


@dataclass(frozen=True)
class Plane(ABC):
    """One record in rows of 10 ms and 80 mel bins.

    Attributes:
        values: What is scored, (1, ...); 0 is the mean spectrum, or silence.
        rate: Samples a second.
    """

    offset: ClassVar[float]
    """Samples at which the first row begins: rows are as long as the steps of windows that overlap."""

    values: Tensor
    rate: int

    @property
    def start(self) -> float:
        """Seconds at which the first row begins."""
        return self.offset / self.rate

    @property
    @abstractmethod
    def rows(self) -> int:
        """How many rows of 10 ms there are."""

    @abstractmethod
    def sound(self, values: Tensor) -> Tensor:
        """The model's main input that such values (variants, ...) stand for; differentiable."""

    @abstractmethod
    def placed(self, scores: Tensor) -> Tensor:
        """Scores of the `values` of the record as (rows, 80), with the same sum."""

    @abstractmethod
    def without(self, hidden: Tensor) -> Tensor:
        """The model's main input with these parts hidden, (variants, ...); `hidden` (variants, rows, 80), bool."""

    @property
    def cells(self) -> Tensor:
        """The cell of each row and bin, (rows, 80)."""
        return cells_of(self.rows)

    @property
    def num_cells(self) -> int:
        """How many cells there are."""
        return (len(window_edges(self.rows)) - 1) * BANDS


@dataclass(frozen=True)
class MelPlane(Plane):
    """Of a model that reads normalised log-mel frames: hidden bins get 0, their mean or that of the record."""

    offset = (mel.WINDOW - mel.HOP) / 2

    @property
    def rows(self) -> int:
        """How many windows there are."""
        return self.values[0].numel() // mel.BINS

    def sound(self, values: Tensor) -> Tensor:
        """The values: they are what the model reads."""
        return values

    def placed(self, scores: Tensor) -> Tensor:
        """The windows of each frame one after the other, (rows, 80)."""
        return scores.reshape(-1, mel.BINS)

    def without(self, hidden: Tensor) -> Tensor:
        """Frames with 0 in the hidden bins."""
        mask = hidden.reshape(len(hidden), *self.values.shape[1:]).to(self.values.device)
        return torch.where(mask, 0.0, self.values)


@dataclass(frozen=True)
class WavePlane(Plane):
    """Of a model that reads a waveform: coefficients of its short-time Fourier transform, (1, 257, rows, 2).

    Windows of 32 ms every 10 ms overlap so that the inverse gives the waveform back. The waveform is the sum of the
    waves that the coefficients stand for; a hidden coefficient's wave is taken out of it.

    Attributes:
        waves: The waveform, (1, samples).
    """

    offset = -mel.HOP / 2

    waves: Tensor

    @classmethod
    def of(cls, waves: Tensor, rate: int) -> WavePlane:
        """The plane of one waveform (1, samples)."""
        found = torch.stft(waves, _FFT, mel.HOP, window=_window(waves), return_complex=True)
        return cls(torch.view_as_real(found), rate, waves)

    @property
    def rows(self) -> int:
        """How many windows there are."""
        return self.values.shape[2]

    def sound(self, values: Tensor) -> Tensor:
        """The waveform of coefficients (variants, 257, rows, 2)."""
        found = torch.view_as_complex(values.contiguous())
        window = _window(values)
        return torch.istft(found, _FFT, mel.HOP, window=window, length=self.waves.shape[1])

    def placed(self, scores: Tensor) -> Tensor:
        """Sums of real and imaginary parts, spread over the mel bins that each coefficient's frequencies lie in."""
        flat = scores.sum(-1)[0].T
        return flat @ _shares(self.rate).to(flat)

    def without(self, hidden: Tensor) -> Tensor:
        """The waveform less the waves of the hidden coefficients: with none hidden it is exactly itself."""
        mask = hidden[..., _shares(self.rate).argmax(1)].mT[..., None].to(self.values.device)
        return self.waves - self.sound(torch.where(mask, self.values, 0.0))


def _window(like: Tensor) -> Tensor:
    return torch.hann_window(_FFT, device=like.device, dtype=torch.float32)


@cache
def _shares(rate: int) -> Tensor:
    """Share of each coefficient's band that lies in each mel bin, (257, 80); rows sum to 1."""
    edges = edges_hz(rate).double()
    edges[0], edges[-1] = -rate, rate
    centres = torch.arange(_FFT // 2 + 1, dtype=torch.float64) * rate / _FFT
    low, high = centres - rate / _FFT / 2, centres + rate / _FFT / 2
    inside = torch.minimum(high[:, None], edges[1:]) - torch.maximum(low[:, None], edges[:-1])
    return inside.clamp(min=0) / (rate / _FFT)


def plane_of(task: Task, batch: Batch) -> Plane:
    """The plane of the one row of a batch, on the task's device."""
    modality: Any = task.modality
    values = batch[modality.main_input].to(task.device)
    return MelPlane(values, modality.rate) if modality.spectral else WavePlane.of(values, modality.rate)
