"""Size presets of image encoders that are trained from scratch, for inputs of 8 to 224 pixels and more."""

from __future__ import annotations

__all__ = ["FAMILIES", "SIZES", "image_config", "patch_size"]

from collections.abc import Callable
from typing import Any

from transformers import ConvNextV2Config, PretrainedConfig, ResNetConfig, ViTConfig

from pretune.errors import check_known

_VIT = {"tiny": (4, 128), "mini": (6, 192), "small": (12, 384), "base": (12, 768)}
"""Layers and width; small and base are DeiT's (Touvron et al. 2021); heads are 64 wide.

Weights start with a deviation of 1 / sqrt(width): with the usual 0.02 such narrow models hardly learn in a few hundred
steps (docs/images.md).
"""

SIZES = tuple(_VIT)
"""The presets; every family has all of them."""

_CONVNEXT = {
    "tiny": ((1, 1, 2, 1), 32),
    "mini": ((2, 2, 6, 2), 40),
    "small": ((2, 2, 8, 2), 80),
    "base": ((3, 3, 27, 3), 128),
}
"""Blocks of each stage and width of the first, doubled each time; mini is the paper's atto and small its nano."""

_RESNET = {
    "tiny": ((1, 1, 1, 1), 32, "basic"),
    "mini": ((2, 2, 2, 2), 32, "basic"),
    "small": ((2, 2, 2, 2), 64, "basic"),
    "base": ((3, 4, 6, 3), 256, "bottleneck"),
}
"""Small is ResNet-18 and base ResNet-50. Their stem halves the input twice: made for 64 pixels and more.

For less than 17 pixels the last stages are left out: they would halve a map of one pixel.
"""


def image_config(size: str, family: str, *, image_size: int, num_channels: int) -> PretrainedConfig:
    """The transformers config of a preset.

    Args:
        size: ``tiny``, ``mini``, ``small`` or ``base``.
        family: One of `FAMILIES`.
        image_size: Side of the square input in pixels.
        num_channels: 1 or 3.

    Raises:
        ConfigError: Unknown size or family.
    """
    check_known("family", family, FAMILIES)
    presets, build = FAMILIES[family]
    check_known("size", size, presets)
    return build(presets[size], image_size, num_channels)


def patch_size(image_size: int) -> int:
    """The divisor of `image_size` that is closest to 2 (below 28 pixels), 4 (to 64), 8 (to 128) or 16."""
    wanted = next((p for limit, p in ((27, 2), (64, 4), (128, 8)) if image_size <= limit), 16)
    divisors = [d for d in range(1, image_size + 1) if image_size % d == 0]
    return min(divisors, key=lambda d: (abs(d - wanted), d))


def _vit(preset: Any, image_size: int, num_channels: int) -> PretrainedConfig:
    layers, width = preset
    return ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        image_size=image_size,
        patch_size=patch_size(image_size),
        num_channels=num_channels,
        initializer_range=width**-0.5,
    )


def _convnext(preset: Any, image_size: int, num_channels: int) -> PretrainedConfig:
    depths, width = preset
    return ConvNextV2Config(
        depths=list(depths),
        hidden_sizes=[width * 2**i for i in range(4)],
        image_size=image_size,
        patch_size=min(4, patch_size(image_size) // 2 or 1),
        num_channels=num_channels,
    )


def _resnet(preset: Any, image_size: int, num_channels: int) -> PretrainedConfig:
    depths, width, block = preset
    stages = min(4, 1 + (-(-image_size // 4) - 1).bit_length())
    return ResNetConfig(
        depths=list(depths[:stages]),
        hidden_sizes=[width * 2**i for i in range(stages)],
        embedding_size=min(width, 64),
        layer_type=block,
        num_channels=num_channels,
    )


FAMILIES: dict[str, tuple[dict[str, Any], Callable[[Any, int, int], PretrainedConfig]]] = {
    "vit": (_VIT, _vit),
    "convnext": (_CONVNEXT, _convnext),
    "resnet": (_RESNET, _resnet),
}
"""Presets of each family, and what makes a config of one."""
