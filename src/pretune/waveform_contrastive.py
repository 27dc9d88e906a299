"""Contrastive learning of sound: two changed crops of a recording must find each other."""

from __future__ import annotations

__all__ = ["WaveformContrastive", "crop"]

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune import wave_augment
from pretune.contrast import paired, projection_head
from pretune.limits import check_range
from pretune.modalities.base import Batch, Example, Modality
from pretune.waveform_objective import WaveformObjective

_LEAST_SECONDS = 0.3

_OTHER = "other_"
"""Prefix of the names of the second crops' inputs."""


class WaveformContrastive(WaveformObjective):
    """COLA (Saeed et al. 2021), with NT-Xent (Chen et al. 2020) and crops that are changed.

    Both crops lose spans of time and bands of frequencies, and half of them are given noise. Negatives are the other
    recordings of the process's part of the batch.

    Args:
        temperature: Divides the cosine similarities.
        projection_size: Width of the vectors that are compared; the projection head is thrown away.
        min_crop: Least duration of a crop, as a share of the recording; never under 0.3 seconds.
    """

    batch_size = 32

    least = 2

    def __init__(self, *, temperature: float = 0.2, projection_size: int = 128, min_crop: float = 0.4) -> None:
        super().__init__()
        self.temperature = check_range("temperature", temperature, 0.001, 10)
        self.projection_size = check_range("projection_size", projection_size, 2, 65_536)
        self.min_crop = check_range("min_crop", min_crop, 0.01, 1)

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Builds the projection head."""
        super().setup(model, modality)
        self.head = projection_head(self.width, self.projection_size)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """The encoder's inputs of two crops of each recording, those of the second with ``other_`` before their names.

        ``seconds`` are those of both together, so that a budget in seconds of sound counts what the encoder reads.
        """
        first, second = (super(WaveformContrastive, self).collate(self._crops(examples, rng), rng) for _ in range(2))
        both = {"seconds": first["seconds"] + second["seconds"]}
        return first | both | {_OTHER + name: value for name, value in second.items()}

    def _crops(self, examples: Sequence[Example], rng: np.random.Generator) -> list[Example]:
        least = round(_LEAST_SECONDS * self.modality.rate)
        crops = [crop(e, rng, share=self.min_crop, least=least) for e in examples]
        return [wave_augment.changed(e, rng, strong=True) for e in crops]

    def counts(self, batch: Batch) -> dict[str, float]:
        """None: the loss of a part of the batch has fewer negatives, so no scale makes it a share of the whole."""
        return {}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """NT-Xent, and how often, how near and how evenly crops find each other."""
        other = {n.removeprefix(_OTHER): v for n, v in batch.items() if n.startswith(_OTHER)}
        first, second = self.vectors(batch), self.vectors(other)
        return paired(first, second, self.temperature)

    def vectors(self, batch: Batch) -> Tensor:
        """Unit vectors that are compared, (batch, projection_size)."""
        states = self.encode(batch).last_hidden_state
        return F.normalize(self.head(self.pool(states, batch)).float(), dim=-1)


def crop(example: Example, rng: np.random.Generator, *, share: float, least: int) -> Example:
    """A random part of a recording.

    Args:
        example: With ``input_values`` (samples,).
        rng: Draws duration and place.
        share: Least part of the recording that is kept.
        least: Samples that are kept at least, where there are so many.
    """
    samples = example["input_values"]
    lowest = min(len(samples), max(least, round(share * len(samples))))
    number = int(rng.integers(lowest, len(samples) + 1))
    start = int(rng.integers(0, len(samples) - number + 1))
    return example | {"input_values": samples[start : start + number]}
