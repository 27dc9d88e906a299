"""Models with an answer for every place of an image: a pre-trained encoder, a light decoder, one map of outputs."""

from __future__ import annotations

__all__ = ["STRIDE", "AutoDense", "DenseModel", "DenseOutput"]

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from pretune.joined_model import AutoJoined, bare_encoder

STRIDE = 4
"""Input pixels between neighbouring places of the output map."""

_GROUPS = 8


@dataclass
class DenseOutput(ModelOutput):
    """What a dense model gives.

    Attributes:
        logits: Shape (batch, outputs, ceil(height / 4), ceil(width / 4)).
    """

    logits: Tensor | None = None


class AutoDense(AutoJoined):
    """Builds or loads the dense model of any encoder of images.

    The mapping beside the encoder's config is ``dense`` (``bias``: the start of the bias of each output, which gives
    their number; ``width``: of the decoder).

    Args:
        purpose: End of the class name, ``Detection`` or ``Segmentation``.
    """

    def __init__(self, purpose: str) -> None:
        wanted = "images; give an image encoder (vit, resnet ...)"
        super().__init__(DenseModel, purpose, reads="pixel_values", wanted=wanted)


class DenseModel(PreTrainedModel):
    """Encoder, decoder and outputs; made by `AutoDense`, which adds the architecture's base class.

    Of a plain encoder (ViT) the last hidden states are one feature map (compare Li et al. 2022, "Exploring Plain Vision
    Transformer Backbones for Object Detection"); of a staged one (ConvNeXt, ResNet) every stage gives one. The decoder
    adds them from coarse to fine (Lin et al. 2017, "Feature Pyramid Networks") and joins the result with a shallow
    convolutional stem, which sees edges that patches blur (as the spatial path of BiSeNet, Yu et al. 2018).

    Args:
        config: Of the encoder, with the mapping ``dense``.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        dense: dict[str, Any] = config.dense
        encoder = bare_encoder(config)
        setattr(self, self.base_model_prefix, encoder)
        self._positions = "interpolate_pos_encoding" in inspect.signature(encoder.forward).parameters
        self.decoder = Decoder(_channels(config), config.num_channels, dense["width"])
        self.outputs = _Outputs(dense["width"], dense["bias"])
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, _Convolution):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, _Outputs):
            init.normal_(module.weight, std=0.01)
            init.copy_(cast(Tensor, module.bias), torch.tensor(module.start))
        else:
            super()._init_weights(module)

    def forward(self, pixel_values: Tensor) -> DenseOutput:
        """The output map of images of any size; they need not fit the encoder's patches.

        Args:
            pixel_values: Normalised, shape (batch, channels, height, width).
        """
        height, width = pixel_values.shape[-2:]
        whole = _multiple(self.config)
        padded = F.pad(pixel_values, (0, -width % whole, 0, -height % whole))
        found = self.outputs(self.decoder(self.feature_maps(padded), padded))
        return DenseOutput(logits=found[..., : math.ceil(height / STRIDE), : math.ceil(width / STRIDE)])

    def feature_maps(self, pixel_values: Tensor) -> list[Tensor]:
        """The encoder's maps, finest first, each of shape (batch, channels, rows, columns)."""
        num_stages = len(_channels(self.config))
        options: dict[str, Any] = {"output_hidden_states": True} if num_stages > 1 else {}
        if self._positions:
            options["interpolate_pos_encoding"] = True
        found = self.base_model(pixel_values, **options)
        if num_stages > 1:
            # in one layout, whether they were just computed or stored: convolutions round by layout
            return [state.contiguous() for state in found.hidden_states[-num_stages:]]
        return [_as_map(found.last_hidden_state, pixel_values, self.config)]


def _channels(config: PretrainedConfig) -> list[int]:
    """Channels of each feature map, finest first."""
    return list(getattr(config, "hidden_sizes", None) or [config.hidden_size])


def _multiple(config: PretrainedConfig) -> int:
    """What height and width must be a multiple of for all maps to cover the same area."""
    return 32 if len(_channels(config)) > 1 else math.lcm(STRIDE, int(config.patch_size))


def _as_map(hidden: Tensor, pixel_values: Tensor, config: PretrainedConfig) -> Tensor:
    """Patch states, shape (batch, extra + patches, channels), as a map; class and register tokens come first."""
    if hidden.ndim == 4:
        return hidden
    rows, columns = (s // int(config.patch_size) for s in pixel_values.shape[-2:])
    patches = hidden[:, hidden.shape[1] - rows * columns :]
    return patches.transpose(1, 2).reshape(len(hidden), hidden.shape[-1], rows, columns)


class _Convolution(nn.Conv2d):
    """A convolution of the decoder, which starts differently from the encoder's (see `DenseModel._init_weights`)."""


class _Outputs(nn.Conv2d):
    """The last layer; `start` is where its bias starts (Lin et al. 2017, "Focal Loss": the prior of rare classes)."""

    def __init__(self, width: int, start: Sequence[float]) -> None:
        super().__init__(width, len(start), 1)
        self.start = list(start)


class _Block(nn.Sequential):
    """Convolution, group normalisation (no statistics over the batch, which is small), ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            _Convolution(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.GroupNorm(math.gcd(_GROUPS, outputs), outputs),
            nn.ReLU(inplace=True),
        )


class Decoder(nn.Module):
    """Feature maps and the image itself to one map at stride 4.

    Args:
        channels: Of each feature map, finest first.
        num_channels: Of the image.
        width: Channels inside and of the result.
    """

    def __init__(self, channels: Sequence[int], num_channels: int, width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(_Block(c, width, 1) for c in channels)
        self.joins = nn.ModuleList(_Block(width, width) for _ in channels)
        self.stem = nn.Sequential(_Block(num_channels, width // 2, stride=2), _Block(width // 2, width, stride=2))
        self.fuse = nn.Sequential(_Block(2 * width, width), _Block(width, width))

    def forward(self, maps: Sequence[Tensor], pixel_values: Tensor) -> Tensor:
        """Shape (batch, width, height / 4, width / 4)."""
        coarse: Tensor | None = None
        for features, lateral, join in reversed(list(zip(maps, self.laterals, self.joins, strict=True))):
            found = lateral(features)
            if coarse is not None:
                found = found + _resized(coarse, found)
            coarse = join(found)
        assert coarse is not None
        detail = self.stem(pixel_values)
        return self.fuse(torch.cat([_resized(coarse, detail), detail], dim=1))


def _resized(features: Tensor, like: Tensor) -> Tensor:
    if features.shape[-2:] == like.shape[-2:]:
        return features
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)
