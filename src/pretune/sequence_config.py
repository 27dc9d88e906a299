"""Size presets of encoders of sequences that are trained from scratch: text's, and ESM's."""

from __future__ import annotations

__all__ = ["FAMILIES", "SIZES", "sequence_config"]

from collections.abc import Mapping

from transformers import EsmConfig, PretrainedConfig

from pretune import text_config
from pretune.errors import check_known
from pretune.text_config import SIZES

FAMILIES = ("modernbert", "esm", "bert")


def sequence_config(
    size: str, family: str, *, vocab_size: int, max_length: int, special: Mapping[str, int]
) -> PretrainedConfig:
    """The transformers config of a preset; ``esm`` is ESM-2's encoder (Lin et al. 2023) with rotary positions.

    Args:
        size: One of `SIZES`.
        family: One of `FAMILIES`.
        vocab_size: Of the tokenizer; embeddings get the next multiple of 64 rows.
        max_length: Positions.
        special: Ids of ``pad``, ``cls``, ``sep`` and ``mask``.

    Raises:
        ConfigError: Unknown size or family.
    """
    check_known("family", family, FAMILIES)
    if family != "esm":
        return text_config.text_config(size, family, vocab_size=vocab_size, max_length=max_length, special=special)
    check_known("size", size, SIZES)
    layers, width = SIZES[size]
    return EsmConfig(
        vocab_size=-(-vocab_size // 64) * 64,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=max_length + special["pad"] + 1,
        position_embedding_type="rotary",
        emb_layer_norm_before=False,
        token_dropout=False,
        layer_norm_eps=1e-5,
        pad_token_id=special["pad"],
        mask_token_id=special["mask"],
    )
