"""Autoencoder of sound: encoder, a code of a few numbers for a recording, a decoder to its spectrogram."""

from __future__ import annotations

__all__ = ["WaveformAutoencoder"]

from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune import mel
from pretune.evenly_spaced import evenly_spaced
from pretune.limits import check_range
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.objectives.base import Floor
from pretune.sound_frames import inside
from pretune.spectrogram_grid import spectrograms
from pretune.waveform_objective import WaveformObjective

if TYPE_CHECKING:
    from PIL.Image import Image

_SAMPLED, _KERNEL = 200, 5

_CHANNELS = 8
"""Channels of the decoder for each of `decoder_width`: frames are few, and pixels many."""


class WaveformAutoencoder(WaveformObjective):
    """Squared error of the log-mel spectrogram rebuilt from one code, of any length; denoising with `noise`.

    Args:
        code_size: Numbers in the code.
        noise: Standard deviation of Gaussian noise on the encoder's input, which has about 1.
        decoder_width: An eighth of the channels of the decoder.
    """

    def __init__(self, *, code_size: int = 128, noise: float = 0.0, decoder_width: int = 32) -> None:
        super().__init__()
        self.code_size = check_range("code_size", code_size, 1, 65_536)
        self.noise = check_range("noise", noise, 0, 100)
        self.decoder_width = check_range("decoder_width", decoder_width, 1, 4096)

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Builds the code and the decoder."""
        super().setup(model, modality)
        self.code = nn.Linear(self.width, self.code_size)
        self.decoder = _Decoder(self.code_size, _CHANNELS * self.decoder_width, self.frame_size)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """The encoder's inputs; with noise they are corrupted, and ``mels`` are those of the recording itself."""
        batch = self.with_mels(super().collate(examples, rng), examples)
        if self.noise > 0:
            name = self.modality.main_input
            clean, kept = batch[name], batch["attention_mask"]
            drawn = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
            noisy = clean + self.noise * drawn * kept.view(*kept.shape, *[1] * (clean.ndim - kept.ndim))
            batch |= {name: noisy, "mels": self.log_mels(batch)}
        return batch

    def targets(self, batch: Batch) -> Tensor:
        """Normalised log-mel frames of the uncorrupted recordings, (batch, frames, 80 x windows)."""
        found: Tensor = batch["mels"] if "mels" in batch else self.log_mels(batch)
        return found

    def counts(self, batch: Batch) -> dict[str, float]:
        """Frames."""
        return {"frames": float(batch["num_frames"].sum())}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error over the frames of the recordings, in units of the variance of each mel bin."""
        targets = self.targets(batch)
        kept = inside(batch["num_frames"], targets.shape[1])
        loss = (self.rebuild(batch).float() - targets)[kept].square().mean()
        return {"loss": loss * self.scale.get("frames", 1.0)}

    def rebuild(self, batch: Batch) -> Tensor:
        """Spectrograms from codes, (batch, frames, 80 x windows)."""
        states = self.encode(batch).last_hidden_state
        found: Tensor = self.decoder(self.code(self.pool(states, batch)), batch["num_frames"], states.shape[1])
        return found

    def floor(self, corpus: Corpus) -> Floor:
        """The loss of always answering the mean frame."""
        frames = []
        for example in evenly_spaced(self.examples(corpus, seed=0), _SAMPLED):
            batch = self.collate([example], np.random.default_rng(0))
            frames.append(self.targets(batch)[0, : int(batch["num_frames"][0])])
        found = torch.cat(frames)
        return Floor(float((found - found.mean(0)).square().mean()), "the mean frame")

    @torch.no_grad()
    def pictures(self, corpus: Corpus) -> dict[str, Image]:
        """Held-out spectrograms: whole, what the encoder read where that is noisy and a spectrogram, and rebuilt."""
        rows: dict[str, list[Tensor]] = {"original": [], "input": [], "rebuilt": []}
        for batch in self.shown(corpus):
            rows["original"].append(self.targets(batch)[0].cpu())
            rows["input"].append(self._heard(batch)[0].cpu())
            rows["rebuilt"].append(self.rebuild(batch)[0].float().cpu())
        return {"reconstructions": spectrograms({n: r for n, r in rows.items() if n != "input" or self.noise > 0})}

    def _heard(self, batch: Batch) -> Tensor:
        """The encoder's input as log-mel frames."""
        if self.modality.spectral:
            found: Tensor = batch["input_features"]
            return found
        waves = batch["input_values"] * 0.1  # far from clipping; spectra are normalised anyway
        mels = mel.log_mel(waves, self.modality.rate)
        return mel.stacked(mel.normalised(mels, mel.num_frames(batch["num_samples"])), 2)


class _Decoder(nn.Module):
    """Frames from a code and their places: what a frame holds depends on both, and convolutions make neighbours agree.

    The places are sines of the time since the start and of the time to the end, so that any length can be had.
    """

    def __init__(self, code_size: int, channels: int, bins: int) -> None:
        super().__init__()
        self.num_waves = 16
        self.code = nn.Linear(code_size, channels)
        self.place = nn.Linear(4 * self.num_waves, channels)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(channels, channels), nn.GELU())
        self.smooth = nn.Sequential(
            nn.Conv1d(channels, channels, _KERNEL, padding=_KERNEL // 2), nn.GELU(), nn.Conv1d(channels, bins, 1)
        )

    def forward(self, codes: Tensor, counts: Tensor, frames: int) -> Tensor:
        """Spectrograms of codes.

        Args:
            codes: (batch, code_size).
            counts: Frames of each recording, (batch,).
            frames: Frames of the longest.

        Returns:
            (batch, frames, bins); what lies behind a recording's own frames has no meaning.
        """
        place = self._places(counts, frames)
        hidden = self.mix(self.code(codes)[:, None] + self.place(place.to(codes.dtype)))
        hidden = hidden * inside(counts, frames)[..., None]
        found: Tensor = self.smooth(hidden.transpose(1, 2)).transpose(1, 2)
        return found

    def _places(self, counts: Tensor, frames: int) -> Tensor:
        """Sines and cosines of waves of 4 to 4,000 frames, (batch, frames, 4 x waves)."""
        start = torch.arange(frames, device=counts.device).expand(len(counts), -1).float()
        end = counts[:, None] - 1 - start
        rates = torch.logspace(log(0.25, 10), log(2.5e-4, 10), self.num_waves, device=counts.device) * 2 * torch.pi
        angles = torch.cat((start[..., None] * rates, end[..., None] * rates), dim=-1)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)
