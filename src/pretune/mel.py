"""Log-mel features of sound as `SeamlessM4TFeatureExtractor` makes them, but for a batch at once and in torch."""

from __future__ import annotations

__all__ = ["BINS", "HOP", "WINDOW", "log_mel", "normalised", "num_frames", "stacked"]

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank, window_function

from pretune.sound_frames import inside

WINDOW, HOP, BINS = 400, 160, 80
"""Samples in a window, samples between windows, mel bins: those of Kaldi at 16 kHz (25 ms, 10 ms)."""

_FFT, _PREEMPHASIS, _FLOOR, _SCALE = 512, 0.97, 1.192092955078125e-07, 2.0**15


def num_frames(samples: Tensor) -> Tensor:
    """Windows in recordings of so many samples (a tensor of counts)."""
    return (samples - WINDOW).div(HOP, rounding_mode="floor").add(1).clamp(min=0)


def log_mel(waves: Tensor, rate: int) -> Tensor:
    """Log energies of mel bins, (batch, windows, 80), float32, as Kaldi computes them.

    Args:
        waves: (batch, samples), -1 to 1.
        rate: Samples a second.
    """
    frames = (waves * _SCALE).unfold(1, WINDOW, HOP)
    frames = frames - frames.mean(-1, keepdim=True)
    first = frames[..., :1] * (1 - _PREEMPHASIS)
    frames = torch.cat((first, frames[..., 1:] - _PREEMPHASIS * frames[..., :-1]), dim=-1)
    window, filters = (t.to(waves.device) for t in _tables(rate))
    spectrum = torch.view_as_real(torch.fft.rfft(frames * window, _FFT)).square().sum(-1)
    return (spectrum @ filters).clamp(min=_FLOOR).log()


@cache
def _tables(rate: int) -> tuple[Tensor, Tensor]:
    filters = mel_filter_bank(
        num_frequency_bins=_FFT // 2 + 1,
        num_mel_filters=BINS,
        min_frequency=20,
        max_frequency=rate // 2,
        sampling_rate=rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    window = window_function(WINDOW, "povey", periodic=False)
    return torch.from_numpy(window).float(), torch.from_numpy(filters).float()


def normalised(mels: Tensor, lengths: Tensor, *, together: bool = False) -> Tensor:
    """Each bin of each recording with mean 0 and deviation 1 over its own windows; 0 beyond them.

    Args:
        mels: (batch, windows, bins).
        lengths: Windows of each recording, at least 2.
        together: All bins of a recording on one scale instead, so that its mean spectrum stays.
    """
    own = inside(lengths, mels.shape[1])[..., None]
    over, count = ((1, 2), lengths * mels.shape[2]) if together else ((1,), lengths)
    mean = (mels * own).sum(over, keepdim=True) / count[:, None, None]
    centred = (mels - mean) * own
    variance = centred.square().sum(over, keepdim=True) / (count[:, None, None] - 1)
    return centred / (variance + 1e-7).sqrt()


def stacked(mels: Tensor, stride: int) -> Tensor:
    """`stride` windows as one frame, (batch, windows // stride, bins x stride); what remains is left out."""
    whole = mels.shape[1] // stride * stride
    return F.pad(mels, (0, 0, 0, whole - mels.shape[1])).reshape(len(mels), whole // stride, -1)
