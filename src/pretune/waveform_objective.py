"""What the objectives on sound share: the encoder, its pooled vector, spectra as targets, pictures."""

from __future__ import annotations

__all__ = ["WaveformObjective"]

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pretune import encoder, mel
from pretune.errors import ModelError
from pretune.evenly_spaced import evenly_spaced
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.objectives.base import Objective
from pretune.sound_frames import frame_counts, mean_of_frames, most_frames
from pretune.wave_corpus import Pieces

_SHOWN = 4


class WaveformObjective(Objective):
    """Base of the objectives on sound; a subclass builds on `model` in `setup` and defines `forward`."""

    accepts: ClassVar[frozenset[str]] = frozenset({"waveform"})
    batch_size = 16
    num_held_out = 64
    width_times_lr = 0.2
    betas = (0.9, 0.98)

    model: PreTrainedModel
    modality: Any

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes the encoder; masks are ours alone."""
        model.config.apply_spec_augment = True  # else transformers ignores the masks that we give
        self.model, self.modality = model, modality
        self.width = encoder.width(model.config)

    def examples(self, corpus: Corpus, *, seed: int) -> Sequence[Example]:
        """Recordings, long ones in equal parts."""
        return Pieces(corpus, round(self.modality.piece_seconds * self.modality.rate))

    def lengths(self, examples: Sequence[Example]) -> Sequence[int]:
        """Frames of 20 ms of each example: batches hold pieces of similar length."""
        pieces: Any = examples
        return [1 + n * 50 // self.modality.rate for n in pieces.lengths]

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """What the encoder reads, and ``num_frames`` (batch,), those of each recording."""
        batch = self.modality.pad(examples)
        return batch | {"num_frames": frame_counts(self.model, batch)}

    def encode(self, batch: Batch, mask: Tensor | None = None) -> Any:
        """The encoder's output; frames where `mask` (batch, frames) is True are hidden from it."""
        name = self.modality.main_input
        if mask is None:  # without one, transformers hides frames of its own in training
            mask = torch.zeros(len(batch[name]), most_frames(self.model, batch), dtype=torch.bool)
            mask = mask.to(batch[name].device)
        return self.model(**{name: batch[name]}, attention_mask=batch["attention_mask"], mask_time_indices=mask)

    def pool(self, states: Tensor, batch: Batch) -> Tensor:
        """Mean of a recording's frames, (batch, width), as classifiers pool."""
        return mean_of_frames(states, batch["num_frames"])

    def embeddings(self, examples: Sequence[Example]) -> Tensor:
        """Mean states of the exported encoder for unchanged recordings, (examples, width), float32."""
        found = []
        for start in range(0, len(examples), 16):
            batch = self.modality.pad(examples[start : start + 16])
            batch = {k: v.to(self.model.device) for k, v in batch.items()}
            states = self.encode(batch).last_hidden_state
            found.append(mean_of_frames(states, frame_counts(self.model, batch)).float())
        return torch.cat(found)

    def log_mels(self, batch: Batch) -> Tensor:
        """Normalised log-mel frames that lie on the encoder's frames, (batch, frames, 160), of a batch of `collate`."""
        if self.modality.spectral:
            features: Tensor = batch["input_features"]
            return features
        targets: Tensor = batch["mels"]
        return targets

    def with_mels(self, batch: Batch, examples: Sequence[Example]) -> Batch:
        """The batch with ``mels``, where the encoder reads waveforms: the same frames as spectra."""
        if self.modality.spectral:
            return batch
        waves, lengths = self.modality.stacked(examples)
        windows = mel.num_frames(lengths)
        mels = mel.stacked(mel.normalised(mel.log_mel(waves, self.modality.rate), windows), self._windows)
        frames = int(batch["num_frames"].max())
        short = frames - mels.shape[1]  # the convolutions' last frame needs fewer samples than a window
        padded = torch.nn.functional.pad(mels, (0, 0, 0, short)) if short > 0 else mels[:, :frames]
        return batch | {"mels": padded}

    @property
    def frame_size(self) -> int:
        """Numbers in a frame of `log_mels`: 80 bins of each window of 10 ms."""
        return mel.BINS * self._windows

    @property
    def _windows(self) -> int:
        """Windows of a spectrum in a frame."""
        windows, rest = divmod(self.modality.frame_samples, mel.HOP)
        if rest:
            raise ModelError(
                f"A frame of this encoder is {self.modality.frame_samples} samples long and {self.name} needs a "
                f"multiple of {mel.HOP}, so that spectra lie on its frames; take --objective wav2vec2."
            )
        return int(windows)

    def span_of(self, seconds: float) -> int:
        """Frames of the encoder in so many seconds, at least one."""
        return max(1, round(seconds / self.modality.frame_seconds))

    def shown(self, corpus: Corpus) -> Iterator[Batch]:
        """Batches of one recording each, on the encoder's device: those that pictures show."""
        for k, example in enumerate(evenly_spaced(self.examples(corpus, seed=0), _SHOWN)):
            batch = self.collate([example], np.random.default_rng(k))
            yield {name: value.to(self.model.device) for name, value in batch.items()}

    def export(self) -> PreTrainedModel:
        """The encoder."""
        return self.model
