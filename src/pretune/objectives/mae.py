"""Masked autoencoder: rebuild the patches that were hidden; the encoder sees only the others."""

from __future__ import annotations

__all__ = ["MaskedAutoencoder", "hide"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel

from pretune import encoder
from pretune.errors import ConfigError
from pretune.image_grid import labelled_rows
from pretune.limits import check_range
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.objectives.base import Floor
from pretune.patches import cut, grid_positions, joined
from pretune.pixel_objective import PixelObjective

if TYPE_CHECKING:
    from PIL.Image import Image

_HEAD_WIDTH, _SHOWN = 32, 12


class MaskedAutoencoder(PixelObjective):
    """Masked autoencoding (He et al. 2022): most patches are hidden, and the hidden ones' pixels must be named.

    The encoder runs on the visible patches alone, the decoder's last layer and its output on the hidden ones alone.
    The decoder is thrown away; what is exported is a plain ViT.

    Args:
        mask_rate: Share of the patches that are hidden.
        normalise_targets: Predict each patch standardised by its own mean and deviation, which makes detail count.
        decoder_width: Width of the decoder, a multiple of 32 (the width of its attention heads).
        decoder_layers: Transformer layers of the decoder.
    """

    family: ClassVar[str | None] = "vit"
    betas = (0.9, 0.95)
    width_times_lr = 0.4

    def __init__(
        self,
        *,
        mask_rate: float = 0.75,
        normalise_targets: bool = True,
        decoder_width: int = 128,
        decoder_layers: int = 2,
    ) -> None:
        super().__init__()
        self.mask_rate = check_range("mask_rate", mask_rate, 0.05, 0.95)
        self.normalise_targets = normalise_targets
        self.decoder_width = check_range("decoder_width", decoder_width, _HEAD_WIDTH, 8192)
        self.decoder_layers = check_range("decoder_layers", decoder_layers, 1, 64)
        if decoder_width % _HEAD_WIDTH:
            raise ConfigError(f"decoder_width must be a multiple of {_HEAD_WIDTH}, and is {decoder_width}.")

    def auto_class(self, model_type: str) -> Any:
        """The plain ViT.

        Raises:
            ConfigError: Another architecture, which cannot leave patches out.
        """
        if model_type != "vit":
            raise ConfigError(
                f'The objective "mae" leaves patches out, which needs a ViT, and this is "{model_type}"; '
                "use --family vit, or one of: autoencoder, contrastive, distill, gan, vae."
            )
        return AutoModel

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes the ViT and builds the decoder."""
        super().setup(model, modality)
        body: Any = model
        patches = body.embeddings.patch_embeddings
        self.patch = int(patches.projection.kernel_size[0])
        self.num_patches = int(patches.num_patches)
        self.num_visible = max(1, int(self.num_patches * (1 - self.mask_rate)))
        if self.num_visible == self.num_patches:
            raise ConfigError(f"mask_rate {self.mask_rate:g} hides none of the {self.num_patches} patches; raise it.")
        self.decoder = _Decoder(
            self.width,
            self.decoder_width,
            self.decoder_layers,
            num_patches=self.num_patches,
            num_values=self.patch**2 * self.num_channels,
            eps=model.config.layer_norm_eps,
        )

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """``pixel_values``, and the numbers of the ``visible`` and the ``hidden`` patches of each image."""
        noise = torch.from_numpy(rng.random((len(examples), self.num_patches)))
        visible, hidden = hide(noise, self.num_visible)
        return super().collate(examples, rng) | {"visible": visible, "hidden": hidden}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error over the hidden patches."""
        patches = cut(batch["pixel_values"], self.patch)
        predicted = self.predict(patches, batch["visible"], batch["hidden"])
        targets = _taken(patches, batch["hidden"])
        if self.normalise_targets:
            targets = _standardised(targets)
        return {"loss": F.mse_loss(predicted.float(), targets) * self.scale.get("images", 1.0)}

    def predict(self, patches: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Values of the hidden patches, (batch, hidden, values), from all patches (batch, patches, values)."""
        return self.decoder(self.encode_visible(_taken(patches, visible), visible), visible, hidden)

    def encode_visible(self, patches: Tensor, visible: Tensor) -> Tensor:
        """States of the class token and of visible patches, (batch, 1 + visible, width).

        The same as the encoder's own forward pass on a shorter sequence: the patch convolution is a linear map.
        """
        model: Any = self.model
        parts = model.embeddings
        kernel = parts.patch_embeddings.projection
        states = F.linear(patches, kernel.weight.permute(0, 2, 3, 1).flatten(1), kernel.bias)
        positions = parts.position_embeddings[0]
        first = (parts.cls_token[0] + positions[:1]).expand(len(patches), -1, -1)
        where = F.embedding(visible, positions[1:])  # its gradient is faster than that of an index
        states = parts.dropout(torch.cat((first, states + where), dim=1))
        for layer in encoder.blocks(model)[1]:
            states = layer(states)
        return model.layernorm(states)

    def watched(self, output: Any) -> Tensor:
        """Mean states of the patches, (batch, width): this objective gives the class token no target of its own."""
        mean: Tensor = output.last_hidden_state[:, 1:].mean(1)
        return mean

    def floor(self, corpus: Corpus) -> Floor:
        """The loss of always answering the mean patch of a position."""
        patches = cut(self.sample(corpus), self.patch)
        patches = _standardised(patches) if self.normalise_targets else patches
        return Floor(float((patches - patches.mean(0)).square().mean()), "the mean patch")

    @torch.no_grad()
    def pictures(self, corpus: Corpus) -> dict[str, Image]:
        """Held-out originals, what was visible, and the hidden patches as predicted.

        Predictions of standardised patches are shown with the true patch's mean and deviation.
        """
        pixels = self.sample(corpus, _SHOWN).to(self.model.device)
        patches = cut(pixels, self.patch)
        noise = torch.rand(patches.shape[:2], generator=torch.Generator().manual_seed(0))
        visible, hidden = (i.to(pixels.device) for i in hide(noise, self.num_visible))
        predicted = self.predict(patches, visible, hidden).float()
        truth = _taken(patches, hidden)
        if self.normalise_targets:
            mean, deviation = _statistics(truth)
            predicted = predicted * deviation + mean
        index = hidden[:, :, None].expand_as(truth)
        rows = {
            "original": patches,
            "visible": patches.scatter(1, index, torch.zeros_like(truth)),
            "rebuilt": patches.scatter(1, index, predicted),
        }
        show = self.modality.denormalise
        return {
            "reconstructions": labelled_rows(
                {n: show(joined(p.cpu(), self.patch, self.num_channels)) for n, p in rows.items()}
            )
        }


def hide(noise: Tensor, num_visible: int) -> tuple[Tensor, Tensor]:
    """Numbers of the visible patches, those of least noise, and of the hidden ones; noise is (batch, patches)."""
    order = noise.argsort(dim=1)
    return order[:, :num_visible].contiguous(), order[:, num_visible:].contiguous()


def _taken(patches: Tensor, index: Tensor) -> Tensor:
    return patches.gather(1, index[:, :, None].expand(-1, -1, patches.shape[2]))


def _statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def _standardised(patches: Tensor) -> Tensor:
    mean, deviation = _statistics(patches)
    return (patches - mean) / deviation


class _Decoder(nn.Module):
    """Transformer over [class token, visible, hidden]; the order does not matter, since positions are added."""

    positions: Tensor

    def __init__(
        self, encoder_width: int, width: int, num_layers: int, *, num_patches: int, num_values: int, eps: float
    ) -> None:
        super().__init__()
        self.project = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        positions = grid_positions(num_patches, width)
        self.register_buffer("positions", torch.cat((torch.zeros(1, width), positions)))
        self.layers = nn.ModuleList(_Layer(width, eps) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width, eps=eps)
        self.out = nn.Linear(width, num_values)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, states: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Values of the hidden patches, from the encoder's states of class token and visible patches."""
        at_first = self.positions[:1].expand(len(states), -1, -1)
        seen = self.project(states) + torch.cat((at_first, self.positions[1:][visible]), dim=1)
        blank = (self.mask_token + self.positions[1:][hidden]).to(seen.dtype)
        x = torch.cat((seen, blank), dim=1)
        for layer in self.layers[:-1]:
            x = layer(x, 0)
        return self.out(self.norm(self.layers[-1](x, seen.shape[1])))


class _Layer(nn.Module):
    """A pre-norm transformer layer that can leave the first positions out of its output."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.num_heads = width // _HEAD_WIDTH
        self.norm_before = nn.LayerNorm(width, eps=eps)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm_after = nn.LayerNorm(width, eps=eps)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, start: int) -> Tensor:
        """States (batch, length - start, width) of the positions from `start` on, which attend to all of `x`."""
        normed = self.norm_before(x)
        key, value = self._heads(self.key_value(normed), 2)
        (query,) = self._heads(self.query(normed[:, start:]), 1)
        weights = (query * _HEAD_WIDTH**-0.5 @ key.transpose(-1, -2)).softmax(-1)
        attended = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        x = x[:, start:] + self.out(attended)
        return x + self.down(F.gelu(self.up(self.norm_after(x))))

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return x.unflatten(2, (parts, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
