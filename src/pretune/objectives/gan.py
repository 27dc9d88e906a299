"""Generative adversarial network: the critic that tells real from generated images is the encoder that is kept."""

from __future__ import annotations

__all__ = ["Gan", "gradient_penalty"]

import copy
from collections.abc import Callable, Sequence
from math import log
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from pretune.errors import ConfigError
from pretune.image_decoder import ImageDecoder
from pretune.image_grid import grid
from pretune.limits import check_range
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.objectives.base import Floor
from pretune.pixel_objective import PixelObjective, pooled

if TYPE_CHECKING:
    from PIL.Image import Image


class Gan(PixelObjective):
    """Non-saturating GAN (Goodfellow et al. 2014) with R1 (Mescheder et al. 2018), for small data.

    Real and generated images are moved, cut and recoloured by differentiable augmentation before the critic sees them
    (Zhao et al. 2020), which keeps a critic of few images from learning them by heart. Critic and generator share one
    optimiser: the critic's loss sees detached images, the generator's a critic with detached weights.

    Args:
        code_size: Numbers in the generator's random code.
        r1_weight: Weight (gamma) of half the squared gradient of the critic at real images.
        r1_rate: Share of the real images at which it is computed.
        augment_rate: Strength of the differentiable augmentation, 0 (off) to 1.
        generator_width: Channels of the generator at full resolution.
        ema: Decay of the averaged generator, which makes the samples.
    """

    family = "convnext"
    betas = (0.0, 0.99)
    width_times_lr = 0.1
    average: nn.Module
    num_steps: Tensor

    def __init__(
        self,
        *,
        code_size: int = 128,
        r1_weight: float = 0.1,
        r1_rate: float = 0.25,
        augment_rate: float = 1.0,
        generator_width: int = 32,
        ema: float = 0.999,
    ) -> None:
        super().__init__()
        self.code_size = check_range("code_size", code_size, 1, 65_536)
        self.r1_weight = check_range("r1_weight", r1_weight, 0, 1e6)
        self.r1_rate = check_range("r1_rate", r1_rate, 0, 1)
        self.augment_rate = check_range("augment_rate", augment_rate, 0, 1)
        self.generator_width = check_range("generator_width", generator_width, 1, 4096)
        self.ema = check_range("ema", ema, 0, 0.999999)

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Builds the critic's head, the generator and its average.

        Raises:
            ConfigError: An encoder with batch normalisation, which takes out what tells a batch of generated images.
        """
        super().setup(model, modality)
        if any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
            raise ConfigError(
                'The objective "gan" needs an encoder without batch normalisation (its statistics hide how a batch of '
                f'generated images differs), and this is "{model.config.model_type}"; use --family vit or convnext, or '
                "one of: autoencoder, contrastive, distill, vae."
            )
        self.critic = _Critic(self.model, self.width)
        self.generator = ImageDecoder(self.code_size, self.image_size, self.num_channels, width=self.generator_width)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """Real ``pixel_values``, random ``codes``, and which images are ``penalised``."""
        num = len(examples)
        codes = torch.from_numpy(rng.standard_normal((num, self.code_size), dtype=np.float32))
        penalised = torch.from_numpy(rng.random(num) < self.r1_rate)
        return super().collate(examples, rng) | {"codes": codes, "penalised": penalised}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Numbers of images, and of images with a penalty."""
        return super().counts(batch) | {"penalised": float(batch["penalised"].sum())}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Both losses in one; the critic's is logged as ``critic_loss``."""
        real, fake = batch["pixel_values"], self.generator(batch["codes"]).float()
        real_scores, fake_scores = self.critic(self._seen(real)), self.critic(self._seen(fake.detach()))
        critic_loss = (F.softplus(-real_scores) + F.softplus(fake_scores)).mean()
        fixed = {n: p.detach() for n, p in self.critic.named_parameters()}
        generator_loss = F.softplus(-functional_call(self.critic, fixed, (self._seen(fake),))).mean()
        loss = (critic_loss + generator_loss) * self.scale.get("images", 1.0)
        logs = {
            "critic_loss": critic_loss.detach(),
            "generator_loss": generator_loss.detach(),
            "critic_accuracy": torch.cat((real_scores > 0, fake_scores < 0)).float().mean(),
        }
        if self.r1_weight > 0 and torch.is_grad_enabled() and bool(batch["penalised"].any()):
            penalty = gradient_penalty(self.critic, self._seen(real[batch["penalised"]]))
            loss = loss + 0.5 * self.r1_weight * penalty * self.scale.get("penalised", 1.0)
            logs["r1"] = penalty.detach()
        return {"loss": loss, **logs}

    def _seen(self, images: Tensor) -> Tensor:
        return differentiably_augmented(images, self.augment_rate) if self.training else images

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Updates the averaged generator; early averages are short, or they would keep the random start."""
        self.num_steps += 1
        decay = min(self.ema, float((1 + self.num_steps) / (10 + self.num_steps)))
        for slow, fast in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)

    def floor(self, corpus: Corpus) -> Floor:
        """The loss of a critic that cannot tell; a good one of a good generator stays not far below."""
        return Floor(2 * log(2), "chance", "critic_loss")

    @torch.no_grad()
    def pictures(self, corpus: Corpus) -> dict[str, Image]:
        """Samples of the averaged generator, and as many real images."""
        codes = torch.randn(64, self.code_size, generator=torch.Generator().manual_seed(0))
        samples = self.average(codes.to(self.model.device)).float().cpu()
        show = self.modality.denormalise
        return {
            "samples": grid(show(samples), num_columns=8),
            "real": grid(show(self.sample(corpus, 64)), num_columns=8),
        }


class _Critic(nn.Module):
    """The encoder with one score an image."""

    def __init__(self, model: PreTrainedModel, width: int) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(width, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(pooled(self.model(pixel_values=pixels)))[:, 0].float()


def gradient_penalty(critic: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """R1: mean squared norm of the gradient of the scores (batch,) at images (batch, ...), in float32."""
    images = images.detach().requires_grad_()
    # fused attention has no second derivative
    with torch.autocast(images.device.type, enabled=False), sdpa_kernel(SDPBackend.MATH):
        (slope,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    return slope.square().flatten(1).sum(1).mean()


def differentiably_augmented(images: Tensor, rate: float) -> Tensor:
    """Brightness, contrast, moves by an eighth, and a square cut out, as DiffAugment (Zhao et al. 2020).

    Args:
        images: (batch, channels, height, width), normalised.
        rate: Strength; 0 changes nothing.
    """
    if rate == 0:
        return images
    batch, (height, width) = len(images), images.shape[2:]
    draw = torch.rand(batch, 6, 1, 1, 1, device=images.device).unbind(1)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (1 + rate * (draw[0] - 0.5)) + rate * (draw[1] - 0.5)
    reach = max(1, round(rate * height / 8))
    rows = torch.arange(height, device=images.device) + (draw[2] * (2 * reach + 1)).long()[:, 0, 0] - reach
    columns = torch.arange(width, device=images.device) + (draw[3] * (2 * reach + 1)).long()[:, 0, 0] - reach
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    images = images.gather(2, rows[:, None, :, None].expand_as(images))
    images = images.gather(3, columns[:, None, None, :].expand_as(images))
    return images * _outside_square(height, width, draw[4], draw[5], rate)


def _outside_square(height: int, width: int, y: Tensor, x: Tensor, rate: float) -> Tensor:
    """0 in a square of up to half the side, around a random centre, 1 elsewhere."""
    down = torch.arange(height, device=y.device)[:, None] - y * height
    right = torch.arange(width, device=x.device) - x * width
    return 1.0 - ((down.abs() < rate * height / 4) & (right.abs() < rate * width / 4)).float()
