"""Autoencoder of images: encoder, low-dimensional code, convolutional decoder."""

from __future__ import annotations

__all__ = ["PixelAutoencoder", "mean_image_floor", "reconstructions"]

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune.image_decoder import ImageDecoder
from pretune.image_grid import labelled_rows
from pretune.limits import check_range
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.objectives.base import Floor
from pretune.pixel_objective import PixelObjective

if TYPE_CHECKING:
    from PIL.Image import Image

_SHOWN = 12


class PixelAutoencoder(PixelObjective):
    """Squared error of the image rebuilt from a code (Hinton and Salakhutdinov 2006), denoising with `noise`.

    Args:
        code_size: Numbers in the code.
        noise: Standard deviation of Gaussian noise on the encoder's input; pixels have about 1.
        decoder_width: Channels of the decoder at full resolution.
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
        self.decoder = ImageDecoder(self.code_size, self.image_size, self.num_channels, width=self.decoder_width)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """Normalised ``pixel_values``, and with noise the encoder's ``noisy_values``."""
        batch = super().collate(examples, rng)
        if self.noise > 0:
            pixels = batch["pixel_values"]
            drawn = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32))
            batch["noisy_values"] = pixels + self.noise * drawn.to(pixels.device)
        return batch

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error over all pixels, in units of the pixels' variance."""
        pixels = batch["pixel_values"]
        rebuilt = self.rebuild(batch["noisy_values"] if self.noise > 0 else pixels)
        loss = F.mse_loss(rebuilt.float(), pixels)
        return {"loss": loss * self.scale.get("images", 1.0)}

    def rebuild(self, pixels: Tensor) -> Tensor:
        """Images from the codes of images, both (batch, channels, height, width)."""
        return self.decoder(self.code(self.encode(pixels)))

    def floor(self, corpus: Corpus) -> Floor:
        """The loss of always answering the mean image."""
        return mean_image_floor(self.sample(corpus))

    def pictures(self, corpus: Corpus) -> dict[str, Image]:
        """Held-out originals, what the encoder saw, and what came back."""
        return {"reconstructions": reconstructions(self, self.rebuild, corpus, noise=self.noise)}


def mean_image_floor(pixels: Tensor, of: str = "loss") -> Floor:
    """The mean squared error of answering the mean image, for normalised pixels (images, channels, ...)."""
    return Floor(float((pixels - pixels.mean(0)).square().mean()), "the mean image", of)


@torch.no_grad()
def reconstructions(
    objective: PixelObjective, rebuild: Callable[[Tensor], Tensor], corpus: Corpus, *, noise: float = 0.0
) -> Image:
    """Rows of originals and of what `rebuild` makes of them, in eval mode."""
    pixels = objective.sample(corpus, _SHOWN)
    seen = pixels + noise * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    device = next(objective.parameters()).device
    show: Any = objective.modality.denormalise
    rows = {"original": show(pixels)} | ({"input": show(seen)} if noise else {})
    return labelled_rows(rows | {"rebuilt": show(rebuild(seen.to(device)).float().cpu())})
