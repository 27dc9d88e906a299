"""One record, many variants: the model's answer when words, patches or sounds of it are hidden."""

from __future__ import annotations

__all__ = ["MAX_TOKENS", "WORDS", "expanded", "grid_of", "hidden_id", "per_pass", "variant_logits", "word_groups"]

import torch
from torch import Tensor

from pretune import mel
from pretune.errors import ModelError
from pretune.evaluation import to_device
from pretune.image_config import patch_size
from pretune.modalities.base import Batch
from pretune.tasks.base import Task

MAX_TOKENS = 4096
"""Most tokens (of pictures patches, of sound frames) in one pass, so that a long record cannot exhaust memory."""

WORDS = "word_of"
"""Batch key that says which word each token belongs to, shape (1, tokens); -1 for special tokens."""


def hidden_id(task: Task, wanted: str = "mask") -> int:
    """Token id that stands for "nothing known here": the mask, or the padding of tokenizers without one.

    Raises:
        ModelError: The tokenizer has no such token.
    """
    tokenizer = task.modality.hf  # type: ignore[attr-defined]  # modalities of tokens have a tokenizer
    order = ("mask", "unk", "pad") if wanted == "mask" else (wanted,)
    found = [i for name in order if (i := getattr(tokenizer, f"{name}_token_id")) is not None]
    if not found:
        raise ModelError(f"The tokenizer has no {wanted} token to hide words with; choose another baseline.")
    return int(found[0])


def word_groups(batch: Batch, special_ids: set[int]) -> Tensor:
    """Which word each token of the one row belongs to, shape (tokens,), -1 for special tokens.

    A batch that does not say so gets every token as its own word.
    """
    if WORDS in batch:
        words: Tensor = batch[WORDS][0]
        return words
    ids = batch["input_ids"][0]
    plain = torch.tensor([int(i) not in special_ids for i in ids], device=ids.device)
    return torch.where(plain, plain.cumsum(0) - 1, -1)


def per_pass(task: Task, batch: Batch, max_tokens: int = MAX_TOKENS) -> int:
    """How many variants of the one row go into one pass: a token of a picture is a patch, of a waveform 10 ms."""
    if task.modality.kind == "pixels":
        return max(1, max_tokens // (grid_of(task, batch)[0] * grid_of(task, batch)[1]))
    length = batch[task.modality.main_input].shape[1]
    return max(1, max_tokens // (-(-length // mel.HOP) if "input_values" in batch else length))


def grid_of(task: Task, batch: Batch) -> tuple[int, int, int]:
    """Rows and columns of patches of the one picture, and the side of a patch in pixels."""
    height, width = batch["pixel_values"].shape[-2:]
    own = getattr(task.model.config, "patch_size", None)
    transformer = getattr(task.model.config, "num_attention_heads", None) is not None
    side = int(own) if transformer and isinstance(own, int) else patch_size(min(height, width))
    return -(-height // side), -(-width // side), side


def variant_logits(task: Task, batch: Batch, variants: Tensor, max_tokens: int = MAX_TOKENS) -> Tensor:
    """Logits of variants of the one row of `batch` that differ in their main input.

    Args:
        task: In eval mode.
        batch: One row.
        variants: Main inputs, (variants, ...): token ids, pixels, or sound as the model reads it.
        max_tokens: Most tokens, patches or frames in one pass.
    """
    size = per_pass(task, batch, max_tokens)
    with torch.inference_mode():
        return torch.cat([task(expanded(task, batch, part))["logits"].float() for part in variants.split(size)])


def expanded(task: Task, batch: Batch, variants: Tensor) -> Batch:
    """The one row of `batch` repeated, with other main inputs, shape (variants, ...)."""
    num = len(variants)
    row = {k: v for k, v in batch.items() if isinstance(v, Tensor) and k != "labels"}
    repeated = {k: v.expand(num, *v.shape[1:]) for k, v in row.items()}
    return to_device(repeated | {task.modality.main_input: variants}, task.device)
