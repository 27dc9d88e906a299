"""Masked prediction of sound: name the spectrum, or the cluster, of frames that were hidden."""

from __future__ import annotations

__all__ = ["MaskedAudio"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune.errors import ConfigError
from pretune.evenly_spaced import evenly_spaced
from pretune.frame_clusters import COEFFICIENTS, assign, centroids, cepstra, smooth_spectra
from pretune.limits import check_range
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.objectives.base import Floor
from pretune.sound_frames import inside, span_mask
from pretune.spectrogram_grid import spectrograms
from pretune.waveform_objective import WaveformObjective

if TYPE_CHECKING:
    from PIL.Image import Image

_SAMPLED = 200


class MaskedAudio(WaveformObjective):
    """Spans of frames are hidden from the encoder, and at these frames alone a linear head must name what they were.

    ``clusters`` (HuBERT, Hsu et al. 2021): the number of the k-means cluster of the frame's cepstrum and its change in
    time; k-means is fitted to the corpus before training. ``mel``: the log-mel frame itself (L1 loss; Mockingjay, Liu
    et al. 2020).

    Args:
        targets: ``clusters`` or ``mel``.
        num_clusters: Clusters of k-means, for ``clusters``.
        mask_rate: Share of the frames that is hidden, about.
        mask_seconds: Duration of a hidden span.
    """

    units: ClassVar[str] = "recordings"

    centroids: Tensor

    def __init__(
        self,
        *,
        targets: Literal["clusters", "mel"] = "clusters",
        num_clusters: int = 100,
        mask_rate: float = 0.5,
        mask_seconds: float = 0.2,
    ) -> None:
        super().__init__()
        if targets not in ("clusters", "mel"):
            raise ConfigError(f'targets is "clusters" or "mel", found "{targets}".')
        self.targets = targets
        self.num_clusters = check_range("num_clusters", num_clusters, 2, 10_000)
        self.mask_rate = check_range("mask_rate", mask_rate, 0.02, 0.95)
        self.mask_seconds = check_range("mask_seconds", mask_seconds, 0.02, 5)

    def check(self, modality: Modality) -> None:
        """Finds num_clusters where there are no clusters.

        Raises:
            ConfigError: It was given and has no effect.
        """
        if self.targets == "mel" and self.num_clusters != self.default("num_clusters"):
            raise ConfigError('num_clusters has no effect with targets "mel"; leave it out.')

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Builds the head; the clusters come with `learn`."""
        super().setup(model, modality)
        self.span = self.span_of(self.mask_seconds)
        clustered = self.targets == "clusters"
        self.head = nn.Linear(self.width, self.num_clusters if clustered else self.frame_size)
        self.register_buffer("centroids", torch.zeros(self.num_clusters if clustered else 0, 2 * COEFFICIENTS))

    def learn(self, corpus: Corpus, *, seed: int) -> None:
        """Fits the clusters to frames of up to 200 recordings that are spread over the corpus."""
        if self.targets == "clusters":
            self.centroids.copy_(centroids(self._sampled(corpus), self.num_clusters, seed=seed))

    def _sampled(self, corpus: Corpus) -> Tensor:
        """What the targets are made of, of all frames of some recordings, (frames, features)."""
        examples = evenly_spaced(self.examples(corpus, seed=0), _SAMPLED)
        return torch.cat([self._frames([example]) for example in examples])

    def _frames(self, examples: Sequence[Example]) -> Tensor:
        batch = self.with_mels(WaveformObjective.collate(self, examples, np.random.default_rng(0)), examples)
        mels = self.log_mels(batch)
        kept = inside(batch["num_frames"], mels.shape[1])
        return (cepstra(mels) if self.targets == "clusters" else mels)[kept]

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """The encoder's inputs and the ``mask`` (batch, frames)."""
        batch = self.with_mels(super().collate(examples, rng), examples)
        mask = span_mask(batch["num_frames"].tolist(), rng, rate=self.mask_rate, span=self.span)
        return batch | {"mask": torch.from_numpy(mask)}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Hidden frames."""
        return {"frames": float(batch["mask"].sum())}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy (or L1) over the hidden frames; ``accuracy`` of clusters."""
        mask = batch["mask"]
        predicted = self.head(self.encode(batch, mask).last_hidden_state[mask]).float()
        scale = self.scale.get("frames", 1.0)
        if self.targets == "mel":
            return {"loss": F.l1_loss(predicted, self.log_mels(batch)[mask]) * scale}
        truth = assign(cepstra(self.log_mels(batch))[mask], self.centroids)
        accuracy = (predicted.argmax(-1) == truth).float().mean()
        return {"loss": F.cross_entropy(predicted, truth) * scale, "accuracy": accuracy.detach()}

    def floor(self, corpus: Corpus) -> Floor:
        """The loss of the clusters' frequencies alone; of the mean frame."""
        frames = self._sampled(corpus)
        if self.targets == "mel":
            return Floor(float((frames - frames.median(0).values).abs().mean()), "the median frame")
        shares = torch.bincount(assign(frames, self.centroids), minlength=self.num_clusters).float()
        shares = shares / shares.sum()
        return Floor(float(-torch.xlogy(shares, shares).sum()), "cluster frequency alone")

    @torch.no_grad()
    def pictures(self, corpus: Corpus) -> dict[str, Image]:
        """Held-out spectrograms: whole, what was seen, and as predicted (the mean spectrum of the named cluster)."""
        rows: dict[str, list[Tensor]] = {"original": [], "seen": [], "predicted": []}
        for batch in self.shown(corpus):
            mels, mask = self.log_mels(batch)[0], batch["mask"][0]
            found = self.head(self.encode(batch, batch["mask"]).last_hidden_state[0]).float()
            if self.targets == "clusters":
                found = smooth_spectra(self.centroids, self.frame_size)[found.argmax(-1)]
            hidden = mask[:, None]
            for name, values in (
                ("original", mels),
                ("seen", mels.masked_fill(hidden, 0.0)),
                ("predicted", torch.where(hidden, found, mels)),
            ):
                rows[name].append(values.cpu())
        return {"masked": spectrograms(rows)}
