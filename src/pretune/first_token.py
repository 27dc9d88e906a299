"""The last block of an encoder whose head reads the first token alone: the rest of its output is not computed.

Five sixths of a block's matrix products are spent on what nobody reads then; logits and gradients are the same up to
rounding. Keys and values still come from all positions.
"""

from __future__ import annotations

__all__ = ["first_token_only", "install"]

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers import (
    BertForSequenceClassification,
    ElectraForSequenceClassification,
    PreTrainedModel,
    RobertaForSequenceClassification,
    ViTForImageClassification,
)
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.electra.modeling_electra import ElectraLayer
from transformers.models.roberta.modeling_roberta import RobertaLayer
from transformers.models.vit.modeling_vit import ViTLayer

from pretune import encoder

_ON: ContextVar[bool] = ContextVar("first token only", default=False)


def install(model: PreTrainedModel) -> None:
    """Lets `first_token_only` shorten the last block, where the head is known to read position 0 alone."""
    known = _HEADS.get(type(model))
    if known is None or getattr(model.config, "is_decoder", False):
        return
    last = encoder.blocks(model)[1][-1]
    if isinstance(last, known[0]):
        last.forward = partial(_forward, last, known[1])


@contextlib.contextmanager
def first_token_only() -> Iterator[None]:
    """Inside, last blocks with `install` are short; only for this thread: others may use the same model meanwhile."""
    before = _ON.set(True)
    try:
        yield
    finally:
        _ON.reset(before)


def _forward(block: Any, short: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    # a block that runs again in the backward pass does so in a thread where nothing says that it is short
    if _ON.get() and not block.gradient_checkpointing:
        return short(block, *args, **kwargs)
    return type(block).forward(block, *args, **kwargs)


def _bert(block: Any, hidden: Tensor, mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    part = block.attention.self
    first = hidden[:, :1]
    seen = _attend(
        part.query(first), part.key(hidden), part.value(hidden), mask,
        head_size=part.attention_head_size, dropout=part.dropout.p if part.training else 0.0,
    )  # fmt: skip
    attended = block.attention.output(seen, first)
    return block.output(block.intermediate(attended), attended)


def _vit(block: Any, hidden: Tensor, mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    part, first = block.attention, hidden[:, :1]
    normed = block.layernorm_before(hidden)
    seen = _attend(
        part.q_proj(normed[:, :1]), part.k_proj(normed), part.v_proj(normed), mask,
        head_size=part.head_dim, dropout=part.attention_dropout if part.training else 0.0,
    )  # fmt: skip
    attended = first + block.dropout(part.o_proj(seen))
    return attended + block.dropout(block.mlp(block.layernorm_after(attended)))


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, head_size: int, dropout: float
) -> Tensor:
    """What one query (batch, 1, width) sees of keys and values (batch, tokens, width), shape (batch, 1, width)."""
    q, k, v = (t.unflatten(-1, (-1, head_size)).transpose(1, 2) for t in (query, key, value))
    rows = None if mask is None else mask[:, :, :1]
    return F.scaled_dot_product_attention(q, k, v, rows, dropout).transpose(1, 2).flatten(2)


_HEADS: dict[type, tuple[type, Callable[..., Tensor]]] = {
    BertForSequenceClassification: (BertLayer, _bert),
    ElectraForSequenceClassification: (ElectraLayer, _bert),
    RobertaForSequenceClassification: (RobertaLayer, _bert),
    ViTForImageClassification: (ViTLayer, _vit),
}
"""Classifiers that read position 0 alone, with the class of their blocks and the short forward."""
