"""What the objectives on images share: the encoder, its pooled vector, the batch, reference losses, pictures."""

from __future__ import annotations

__all__ = ["Images", "PixelObjective", "pooled", "stacked"]

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info
from transformers import PreTrainedModel

from pretune import encoder
from pretune.evenly_spaced import evenly_spaced
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.objectives.base import Objective

_SAMPLE = 512


class Images(Sequence[Example]):
    """The images of a corpus as examples, ``{"pixel_values": uint8 (height, width, channels)}``."""

    def __init__(self, corpus: Any) -> None:
        self.corpus = corpus

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, index: Any) -> Any:
        return {"pixel_values": self.corpus[index]}


class PixelObjective(Objective):
    """Base of the objectives on images; a subclass builds on `model` in `setup` and defines `forward`."""

    accepts: ClassVar[frozenset[str]] = frozenset({"pixels"})
    batch_size = 128
    width_times_lr = 0.2

    model: PreTrainedModel
    modality: Any

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes the encoder; a pooler that classifiers do not read is dropped, so that it is not kept untrained."""
        body: Any = model
        if getattr(body, "pooler", None) is not None and any(True for _ in body.pooler.parameters()):
            body.pooler = None
        self.model, self.modality = model, modality
        self.width = encoder.width(model.config)
        self.image_size = int(self.modality.image_size)
        self.num_channels = int(self.modality.num_channels)

    def examples(self, corpus: Corpus, *, seed: int) -> Sequence[Example]:
        """Every image once."""
        return Images(corpus)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """Normalised ``pixel_values`` (batch, channels, height, width)."""
        return {"pixel_values": self.normalised(self.images(examples))}

    def images(self, examples: Sequence[Example]) -> Tensor:
        """The images, uint8 (batch, channels, height, width), where they are augmented.

        That is the encoder's device, which does it at once; worker processes have the CPU alone.
        """
        images = stacked(examples)
        return images if get_worker_info() else images.to(self.model.device)

    def counts(self, batch: Batch) -> dict[str, float]:
        """The number of images: every image has as many targets."""
        return {"images": float(len(batch["pixel_values"]))}

    def normalised(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width), uint8, as the encoder reads them."""
        return self.modality.normalise(images)

    def encode(self, pixels: Tensor) -> Tensor:
        """The vector that a classifier reads, (batch, width), of normalised pixels of any size that fits."""
        more = {}
        if pixels.shape[-1] != self.image_size and hasattr(self.model.config, "num_attention_heads"):
            more["interpolate_pos_encoding"] = True
        return pooled(self.model(pixel_values=pixels, **more))

    def embeddings(self, examples: Sequence[Example]) -> Tensor:
        """Vectors of the exported encoder for plain, unchanged images, (examples, width), float32."""
        model: Any = self.export()
        pixels = self.normalised(stacked(examples)).to(model.device)
        return torch.cat([self.watched(model(pixel_values=part)).float() for part in pixels.split(64)])

    def watched(self, output: Any) -> Tensor:
        """The vectors of an encoder's output that `embeddings` gives: what a classifier reads."""
        return pooled(output)

    def sample(self, corpus: Corpus, number: int = _SAMPLE) -> Tensor:
        """Normalised pixels of at most `number` images, evenly spread over a corpus."""
        return self.normalised(stacked(evenly_spaced(Images(corpus), number)))

    def export(self) -> PreTrainedModel:
        """The encoder."""
        return self.model


def stacked(examples: Sequence[Example]) -> Tensor:
    """The images as one uint8 tensor (batch, channels, height, width)."""
    images = torch.from_numpy(np.stack([e["pixel_values"] for e in examples]))
    return images.permute(0, 3, 1, 2).contiguous()


def pooled(output: Any) -> Tensor:
    """One vector an image, (batch, width): the pooler's (ConvNeXt, ResNet, Swin) or the class token's (ViT)."""
    vector = getattr(output, "pooler_output", None)
    return output.last_hidden_state[:, 0] if vector is None else vector.flatten(1)
