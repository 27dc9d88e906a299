"""Contrastive learning of images: two augmented views of an image must find each other."""

from __future__ import annotations

__all__ = ["PixelContrastive"]

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune.contrast import paired, projection_head
from pretune.evenly_spaced import evenly_spaced
from pretune.image_grid import labelled_rows
from pretune.limits import check_range
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.pixel_objective import Images, PixelObjective, stacked
from pretune.views import Views

if TYPE_CHECKING:
    from PIL.Image import Image

_SHOWN = 12


class PixelContrastive(PixelObjective):
    """SimCLR (Chen et al. 2020): NT-Xent between two random crops with changed colours.

    Negatives are the other images of the process's part of the batch.

    Args:
        temperature: Divides the cosine similarities.
        projection_size: Width of the vectors that are compared; the projection head is thrown away.
        min_crop: Least area of a crop, as a share of the image.
        flip_rate: Share of the views that are mirrored.
        jitter: Strength of the changes of brightness, contrast and colour; 0 is off.
        grayscale_rate: Share of the views that lose their colour.
    """

    least = 2

    def __init__(
        self,
        *,
        temperature: float = 0.2,
        projection_size: int = 128,
        min_crop: float = 0.2,
        flip_rate: float = 0.5,
        jitter: float = 0.5,
        grayscale_rate: float = 0.2,
    ) -> None:
        super().__init__()
        self.temperature = check_range("temperature", temperature, 0.001, 10)
        self.projection_size = check_range("projection_size", projection_size, 2, 65_536)
        self.views = Views(flip_rate=flip_rate, jitter=jitter, grayscale_rate=grayscale_rate)
        self.min_crop = check_range("min_crop", min_crop, 0.01, 1)
        self.flip_rate, self.jitter, self.grayscale_rate = flip_rate, jitter, grayscale_rate

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Builds the projection head."""
        super().setup(model, modality)
        self.head = projection_head(self.width, self.projection_size)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """Two normalised views: ``pixel_values`` and ``other_values``."""
        images = self.images(examples)
        first, second = (self.views(images, rng, (self.min_crop, 1.0)) for _ in range(2))
        return {"pixel_values": self.normalised(first), "other_values": self.normalised(second)}

    def counts(self, batch: Batch) -> dict[str, float]:
        """None: the loss of a part of the batch has fewer negatives, so no scale makes it a share of the whole."""
        return {}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """NT-Xent, and how often, how near and how evenly views find each other."""
        pixels = torch.cat((batch["pixel_values"], batch["other_values"]))
        vectors = F.normalize(self.head(self.encode(pixels)).float(), dim=-1)
        first, second = vectors.chunk(2)
        return paired(first, second, self.temperature)

    def pictures(self, corpus: Corpus) -> dict[str, Image]:
        """Pairs of views: is what they share what should be kept?"""
        examples = evenly_spaced(Images(corpus), _SHOWN)
        batch = self.collate(examples, np.random.default_rng(0))
        show = self.modality.denormalise
        rows = {"original": stacked(examples).float() / 255}
        return {
            "views": labelled_rows(
                rows | {"view": show(batch["pixel_values"]), "other view": show(batch["other_values"])}
            )
        }
