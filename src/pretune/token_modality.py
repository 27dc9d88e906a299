"""What modalities of tokens share: a transformers tokenizer, its special tokens, padding, the limit on length."""

from __future__ import annotations

__all__ = ["TokenModality", "max_positions", "no_tokenizer", "required_tokenizer"]

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from pretune.errors import ConfigError, ModelError
from pretune.modalities.base import Batch, Example, Modality

_UNBOUNDED = 1_000_000
_OFFSET_POSITIONS = ("roberta", "camembert", "mpnet", "longformer", "data2vec-text", "ibert", "esm")
"""Architectures whose first positions are taken by padding: they read that many tokens fewer."""


class TokenModality(Modality):
    """Base of text and of biological sequences; a subclass has the option `max_length`.

    Attributes:
        hf: The transformers tokenizer, after `learn` or `load`.
        num_truncated: Records that `process` and `process_many` have truncated so far.
    """

    kind = "tokens"
    main_input = "input_ids"
    family = "modernbert"
    objective = "mlm"
    loader = "AutoTokenizer"
    hf: PreTrainedTokenizerFast
    max_length: int

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json into a model directory."""
        self.hf.save_pretrained(str(folder))

    @property
    def special(self) -> dict[str, int]:
        """Ids of ``cls``, ``sep``, ``mask`` and ``pad``; those that the tokenizer lacks are absent."""
        hf = self.hf
        first = {
            "cls": hf.cls_token_id,
            "sep": hf.sep_token_id,
            "mask": hf.mask_token_id,
            "pad": hf.pad_token_id,
        }
        instead = {"cls": hf.bos_token_id, "sep": hf.eos_token_id, "pad": hf.eos_token_id}
        ids = {role: instead.get(role) if i is None else i for role, i in first.items()}
        return {role: i for role, i in ids.items() if i is not None}

    def limit_to(self, folder: str) -> None:
        """Lowers max_length to what a model reads.

        Raises:
            ConfigError: The user asked for more.
        """
        limit = max_positions(folder) or min(self.hf.model_max_length, _UNBOUNDED)
        if self.max_length > limit and self.max_length != self.default("max_length"):
            raise ConfigError(
                f'max_length is {self.max_length}, but "{folder}" reads at most {limit} tokens; lower it.'
            )
        self.max_length = min(self.max_length, limit)
        self.hf.model_max_length = self.max_length

    def pad(self, examples: Sequence[Example]) -> Batch:
        """Pads to the longest: ``input_ids``, ``attention_mask`` and, if any has it, ``token_type_ids``."""
        lengths = np.array([len(e["input_ids"]) for e in examples])
        real = np.arange(lengths.max(initial=0)) < lengths[:, None]
        ids = np.full(real.shape, self.special.get("pad", 0), np.int64)
        ids[real] = np.concatenate([e["input_ids"] for e in examples])
        batch = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(real.astype(np.int64)),
        }
        if any("token_type_ids" in e for e in examples):
            types = np.zeros(real.shape, np.int64)
            types[real] = np.concatenate([e.get("token_type_ids", [0] * len(e["input_ids"])) for e in examples])
            batch["token_type_ids"] = torch.from_numpy(types)
        return batch

    def length(self, example: Example) -> int:
        """Number of tokens."""
        return len(example["input_ids"])

    def piece(self, example: Example, length: int, rng: np.random.Generator) -> Example:
        """`length` neighbouring tokens between the special ones at both ends."""
        ids = list(example["input_ids"])
        ends = set(self.special.values())
        head, tail = ids[: int(ids[0] in ends)], ids[len(ids) - int(ids[-1] in ends) :]
        inner = ids[len(head) : len(ids) - len(tail)]
        size = max(1, min(length - len(head) - len(tail), len(inner)))
        start = int(rng.integers(len(inner) - size + 1)) if inner else 0
        return {"input_ids": [*head, *inner[start : start + size], *tail]}

    def read_by(self, names: Sequence[str]) -> None:
        """Makes the tokenizer give, and save, these inputs."""
        self.hf.model_input_names = list(names)
        self.hf.init_kwargs["model_input_names"] = list(names)  # what save_pretrained writes


def required_tokenizer(folder: str) -> Any:
    """The tokenizer of a directory or Hub name, of any sort but one of special tokens alone.

    Raises:
        ModelError: There is none.
    """
    try:
        loaded: Any = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:  # TypeError: a model of sound
        raise ModelError(no_tokenizer(folder)) from error
    # without tokenizer files transformers gives a tokenizer of special tokens alone
    if len(loaded) <= len(loaded.added_tokens_decoder):
        raise ModelError(no_tokenizer(folder))
    return loaded


def max_positions(folder: str) -> int | None:
    """Tokens that a model reads at most; None where its config does not say."""
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError):
        return None  # a tokenizer on its own, such as that of a run that has not ended
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return None
    shifted = any(name in config.model_type for name in _OFFSET_POSITIONS)
    return int(positions - (config.pad_token_id or 0) - 1) if shifted else int(positions)


def no_tokenizer(folder: str) -> str:
    """What to say of a directory without a tokenizer that can be used."""
    return (
        f'"{folder}" has no tokenizer that can be used (tokenizer.json with a vocabulary); give a directory '
        "or Hub name that has one, or train from scratch; of a model of images or sound, give --modality."
    )
