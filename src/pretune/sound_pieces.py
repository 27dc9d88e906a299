"""Pieces of a recording: cells of a tenth of a second of one of eight bands of frequencies, which can be hidden."""

from __future__ import annotations

__all__ = ["Sounds", "sounds_of"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from pretune import mel
from pretune.modalities.base import Batch, Example
from pretune.pieces import Pieces
from pretune.sound_explanation import SoundExplanation
from pretune.sound_plane import Plane, plane_of
from pretune.tasks.base import Task


@dataclass(frozen=True)
class Sounds(Pieces):
    """The cells of one recording: those of the first window of time, low frequencies first, then of the next.

    Attributes:
        batch: One row of ``input_features`` or ``input_values``.
        plane: The same in time and frequency.
        example: ``input_values``, 16-bit samples (samples,).
        name: Where the recording is from.
        span: First and last + 1 word of speech that the explanation is about.
    """

    noun: ClassVar[str] = "cells"

    batch: Batch
    plane: Plane = field(repr=False)
    example: Example = field(repr=False)
    name: str = ""
    span: tuple[int, int] | None = None

    def __len__(self) -> int:
        return self.plane.num_cells

    def merged(self, scores: Tensor) -> list[float]:
        """Sums of scores (rows, 80) over each cell."""
        sums = torch.zeros(len(self), dtype=torch.float64)
        sums.index_add_(0, self.plane.cells.flatten(), scores.double().cpu().flatten())
        return sums.tolist()

    def hiding(self, task: Task, hidden: Sequence[frozenset[int]]) -> Tensor:
        """What the model reads with these cells at their mean (spectra) or silent (waveforms)."""
        table = torch.zeros(len(hidden), len(self), dtype=torch.bool)
        for row, chosen in enumerate(hidden):
            table[row, list(chosen)] = True
        return self.plane.without(table[:, self.plane.cells])

    def explanation(self, scores: Tensor | None, **common: Any) -> SoundExplanation:
        """The recording with the scores of its seconds and frequencies."""
        found = torch.zeros(self.plane.cells.shape) if scores is None else scores
        samples = self.example["input_values"]
        wave = torch.as_tensor(samples, dtype=torch.float32)[None] / 2**15
        short = max(0, mel.WINDOW - wave.shape[1])
        energies = mel.log_mel(torch.nn.functional.pad(wave, (0, short)), self.plane.rate)[0]
        return SoundExplanation(
            samples=samples,
            rate=self.plane.rate,
            spectrum=energies.double().numpy(),
            scores=found.double().cpu().numpy(),
            start=self.plane.start,
            name=self.name,
            span=_seconds(common["prediction"], self.span),
            **common,
        )


def _seconds(prediction: Mapping[str, Any], span: tuple[int, int] | None) -> tuple[float, float] | None:
    """Start and end of the first word of a span of words that the prediction has times of."""
    words = prediction.get("words", ())
    if span is None or not 0 <= span[0] < len(words):
        return None
    word = words[span[0]]
    return float(word["start"]), float(word["end"])


def sounds_of(task: Task, record: Mapping[str, Any], example: Example, span: tuple[int, int] | None = None) -> Sounds:
    """The cells of a record's recording, as the model hears it.

    Args:
        task: With a modality of sound.
        record: By role; names where the recording is from.
        example: The processed record, with ``input_values``.
        span: First and last + 1 of the predicted words that the explanation is about.
    """
    batch = {k: v for k, v in task.collate([example]).items() if k != "labels"}
    name = str(task.modality.origin(record).get("audio", ""))
    return Sounds(batch, plane_of(task, batch), example, name, span)
