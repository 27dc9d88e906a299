"""Recordings longer than a model should attend to, read in windows that overlap."""

from __future__ import annotations

__all__ = ["in_windows"]

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pretune.modalities.base import Batch

_OVERLAP = 2.0
"""Seconds at each side of a window whose frames are read for context alone."""


def in_windows(model: PreTrainedModel, modality: Any, batch: Batch) -> Tensor:
    """Logits of all frames, (batch, frames, symbols); of each window the middle is kept.

    Args:
        model: A CTC model.
        modality: Audio; its `max_seconds` is the longest window.
        batch: Of `Audio.pad`.
    """
    name = modality.main_input
    inputs, mask = batch[name], batch["attention_mask"]
    config: Any = model.config
    step = 1 if modality.spectral else modality.frame_samples  # inputs between two frames
    extra = 0 if modality.spectral else _reach(config) - step
    a_second = modality.rate / modality.frame_samples
    frames = (inputs.shape[1] - extra) // step
    size, margin = int(modality.max_seconds * a_second), int(min(_OVERLAP, modality.max_seconds / 4) * a_second)
    parts = []
    for start in range(0, frames, size - 2 * margin):
        first, last = max(0, start - margin), min(frames, start + size - margin)
        chosen = slice(first * step, last * step + extra)
        logits = model(**{name: inputs[:, chosen]}, attention_mask=mask[:, chosen]).logits
        keep = min(frames, start + size - 2 * margin) - start
        parts.append(logits[:, start - first : start - first + keep])
        if last == frames and start + keep == frames:
            break
    return torch.cat(parts, dim=1)


def _reach(config: Any) -> int:
    """Samples that one frame is made of."""
    reach, jump = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        reach += (kernel - 1) * jump
        jump *= stride
    return reach
