"""Variational autoencoder: rebuild the image from a noisy code that is kept close to a standard normal."""

from __future__ import annotations

__all__ = ["Vae"]

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune.image_decoder import ImageDecoder
from pretune.image_grid import grid
from pretune.limits import check_range
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.objectives.base import Floor
from pretune.pixel_autoencoder import mean_image_floor, reconstructions
from pretune.pixel_objective import PixelObjective

if TYPE_CHECKING:
    from PIL.Image import Image

_ACTIVE_NATS = 0.01


class Vae(PixelObjective):
    """A Gaussian code with reconstruction and beta-weighted KL (Kingma and Welling 2014; Higgins et al. 2017).

    The loss is the mean squared error plus ``2 * beta * KL / pixels``: with `beta` 1 it is, up to factor and constant,
    the negative evidence lower bound of pixels with unit variance.

    Args:
        code_size: Numbers in the code.
        beta: Weight of the KL divergence from the standard normal; less gives sharper images and a fuller code.
        decoder_width: Channels of the decoder at full resolution.
    """

    def __init__(self, *, code_size: int = 128, beta: float = 0.1, decoder_width: int = 32) -> None:
        super().__init__()
        self.code_size = check_range("code_size", code_size, 1, 65_536)
        self.beta = check_range("beta", beta, 0, 1e6)
        self.decoder_width = check_range("decoder_width", decoder_width, 1, 4096)

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Builds the code's mean and log-variance, and the decoder."""
        super().setup(model, modality)
        self.code = nn.Linear(self.width, 2 * self.code_size)
        with torch.no_grad():  # every variance starts at 1: vectors of an untrained encoder may be large
            self.code.weight[self.code_size :] = 0
            self.code.bias.zero_()
        self.decoder = ImageDecoder(self.code_size, self.image_size, self.num_channels, width=self.decoder_width)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """Normalised ``pixel_values`` and the standard normal ``code_noise`` (batch, code_size)."""
        noise = torch.from_numpy(rng.standard_normal((len(examples), self.code_size), dtype=np.float32))
        return super().collate(examples, rng) | {"code_noise": noise}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Squared error plus weighted divergence; also the nats and the number of code entries that are used."""
        pixels = batch["pixel_values"]
        mean, log_variance = self.posterior(pixels)
        rebuilt = self.decoder(mean + (0.5 * log_variance).exp() * batch["code_noise"])
        error = F.mse_loss(rebuilt.float(), pixels)
        divergences = kl_divergence(mean, log_variance).mean(0)
        loss = error + 2 * self.beta * divergences.sum() / pixels[0].numel()
        return {
            "loss": loss * self.scale.get("images", 1.0),
            "reconstruction_loss": error.detach(),
            "kl_nats": divergences.sum().detach(),
            "active_codes": (divergences > _ACTIVE_NATS).sum().detach().float(),
        }

    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code, each (batch, code_size), float32."""
        mean, log_variance = self.code(self.encode(pixels)).float().chunk(2, dim=1)
        # smoothly below 2: no posterior needs more than the prior's 0, and exp of an unsettled encoder's would overflow
        return mean, (2 - F.softplus(2 - log_variance)).clamp(min=-20)

    def floor(self, corpus: Corpus) -> Floor:
        """The reconstruction loss of always answering the mean image."""
        return mean_image_floor(self.sample(corpus), "reconstruction_loss")

    @torch.no_grad()
    def pictures(self, corpus: Corpus) -> dict[str, Image]:
        """Held-out originals with what their mean codes give, and images of random codes."""
        codes = torch.randn(64, self.code_size, generator=torch.Generator().manual_seed(0))
        samples = self.decoder(codes.to(self.model.device)).float().cpu()
        rebuilt = reconstructions(self, lambda pixels: self.decoder(self.posterior(pixels)[0]), corpus)
        return {"reconstructions": rebuilt, "samples": grid(self.modality.denormalise(samples), num_columns=8)}


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Divergence of each Gaussian from the standard normal, in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
