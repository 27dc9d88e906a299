"""The frames that an encoder makes of recordings of different lengths: how many, which are real, which are hidden."""

from __future__ import annotations

__all__ = ["frame_counts", "inside", "mean_of_frames", "most_frames", "span_mask"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretune.modalities.base import Batch


def frame_counts(model: Any, batch: Batch) -> Tensor:
    """Frames that an encoder makes of each recording of a batch of `Audio.pad`, (batch,)."""
    if "input_features" in batch:
        counts: Tensor = batch["attention_mask"].sum(1)
        return counts
    base = model.base_model
    counts = base._get_feat_extract_output_lengths(batch["num_samples"])
    return counts.long()


def most_frames(model: Any, batch: Batch) -> int:
    """Frames of the longest row, padding included."""
    if "input_features" in batch:
        return int(batch["input_features"].shape[1])
    return int(model.base_model._get_feat_extract_output_lengths(torch.tensor(batch["input_values"].shape[1])))


def inside(counts: Tensor, frames: int) -> Tensor:
    """Which of `frames` frames belong to the recording, (batch, frames), bool."""
    return torch.arange(frames, device=counts.device) < counts[:, None]


def mean_of_frames(states: Tensor, counts: Tensor) -> Tensor:
    """Mean over each recording's own frames, (batch, width), of states (batch, frames, width)."""
    kept = inside(counts, states.shape[1])[..., None]
    return (states * kept).sum(1) / counts[:, None]


def span_mask(counts: Sequence[int], rng: np.random.Generator, *, rate: float, span: int) -> NDArray[np.bool_]:
    """Frames to hide: spans at random places, (recordings, most frames); at least one frame is hidden and one seen.

    Args:
        counts: Frames of each recording.
        rng: Draws everything.
        rate: Share of the frames that is hidden, about: spans overlap as in wav2vec 2.0 (Baevski et al. 2020).
        span: Frames in a span.
    """
    mask = np.zeros((len(counts), max(counts)), dtype=bool)
    for row, count in zip(mask, counts, strict=True):
        wide = min(span, max(1, count // 2))
        number = max(1, int(-np.log(1 - rate) * count / wide + rng.random()))
        for start in rng.integers(0, max(1, count - wide + 1), number):
            row[start : start + wide] = True
        if row[:count].all():
            row[rng.integers(count)] = False
    return mask
