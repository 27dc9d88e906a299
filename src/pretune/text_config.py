"""Size presets of text encoders that are trained from scratch."""

from __future__ import annotations

__all__ = ["FAMILIES", "SIZES", "text_config"]

from collections.abc import Mapping
from typing import Any

from transformers import BertConfig, ModernBertConfig, PretrainedConfig

from pretune.errors import check_known

SIZES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768)}
"""Layers and width: the miniatures of Turc et al. (2019, arXiv:1908.08962); heads are 64 wide."""

FAMILIES = ("bert", "modernbert")


def text_config(
    size: str, family: str, *, vocab_size: int, max_length: int, special: Mapping[str, int]
) -> PretrainedConfig:
    """The transformers config of a preset.

    Args:
        size: One of `SIZES`.
        family: One of `FAMILIES`.
        vocab_size: Of the tokenizer; embeddings get the next multiple of 64 rows.
        max_length: Positions.
        special: Ids of ``pad``, ``cls`` and ``sep``.

    Raises:
        ConfigError: Unknown size or family.
    """
    check_known("size", size, SIZES)
    check_known("family", family, FAMILIES)
    layers, width = SIZES[size]
    shape: dict[str, Any] = {
        "vocab_size": -(-vocab_size // 64) * 64,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "max_position_embeddings": max_length,
        "pad_token_id": special.get("pad"),
    }
    if family == "bert":
        return BertConfig(**shape, intermediate_size=4 * width)
    ids: dict[str, Any] = {f"{name}_token_id": special.get(role) for name, role in _MODERN_IDS}
    return ModernBertConfig(
        **shape,
        intermediate_size=width * 3 // 2,  # a gated layer has three matrices: as many weights as 2.25x
        classifier_pooling="mean",
        **ids,
    )


_MODERN_IDS = (("bos", "cls"), ("cls", "cls"), ("eos", "sep"), ("sep", "sep"))
