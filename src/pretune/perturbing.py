"""One record, many variants: the model's answer when words of it are hidden."""

from __future__ import annotations

__all__ = ["MAX_TOKENS", "hidden_id", "link", "probabilities", "variant_logits", "word_groups"]

import torch
from torch import Tensor
from torch.nn import functional as F

from pretune.errors import ModelError
from pretune.evaluation import to_device
from pretune.modalities.base import Batch
from pretune.tasks.base import Task

MAX_TOKENS = 4096
"""Most tokens in one pass of the model, so that a long record cannot exhaust memory."""

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


def variant_logits(task: Task, batch: Batch, ids: Tensor, max_tokens: int = MAX_TOKENS) -> Tensor:
    """Logits of variants of the one row of `batch` that differ in their tokens.

    Args:
        task: In eval mode.
        batch: One row.
        ids: Token ids of the variants, shape (variants, tokens).
        max_tokens: Most tokens in one pass.
    """
    size = max(1, max_tokens // ids.shape[1])
    with torch.inference_mode():
        return torch.cat([task(expanded(task, batch, part))["logits"].float() for part in ids.split(size)])


def expanded(task: Task, batch: Batch, ids: Tensor) -> Batch:
    """The one row of `batch` repeated, with other token ids of shape (variants, tokens)."""
    num = len(ids)
    row = {k: v for k, v in batch.items() if isinstance(v, Tensor) and k != "labels"}
    repeated = {k: v.expand(num, *v.shape[1:]) for k, v in row.items()}
    return to_device(repeated | {"input_ids": ids}, task.device)


def link(task: Task, logits: Tensor) -> Tensor:
    """Logits to log-probabilities; a regression's value stays as it is."""
    problem = task.model.config.problem_type
    if problem == "regression" or logits.shape[-1] == 1:
        return logits
    if problem == "multi_label_classification":
        return F.logsigmoid(logits)
    return logits.log_softmax(-1)


def probabilities(task: Task, batch: Batch, logits: Tensor, of: object) -> Tensor:
    """Probability of the target (an entity: of all its tags together), or the value; (variants,)."""
    found = task.target(link(task, logits), batch, of=of)
    value = task.model.config.problem_type == "regression" or logits.shape[-1] == 1
    return found if value else found.exp()
