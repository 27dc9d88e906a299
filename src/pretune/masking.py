"""Masking noise for token objectives: which positions are hidden, and what stands there instead."""

from __future__ import annotations

__all__ = ["IGNORED", "TokenTable", "mask_tokens", "word_groups"]

from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pretune.errors import ConfigError

Ids: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

IGNORED = -100
"""The label of a position that is not predicted, as in transformers."""


@dataclass(frozen=True)
class TokenTable:
    """What noise must know of a vocabulary; the arrays are indexed by token id."""

    mask_id: int
    pad_id: int
    cls_id: int
    sep_id: int
    maskable: Flags
    """False for special tokens."""
    ordinary: Ids
    """Ids that may stand in for a masked token: all that are not special."""
    continues: Flags
    """True for tokens that continue a word; all False where tokens have no words (DNA, protein)."""

    @classmethod
    def of(cls, tokenizer: Any) -> Self:
        """Reads the table from a transformers tokenizer.

        Raises:
            ConfigError: The tokenizer lacks a mask, padding, start or end token.
        """
        start = _first(tokenizer.cls_token_id, tokenizer.bos_token_id)
        end = _first(tokenizer.sep_token_id, tokenizer.eos_token_id)
        found = {"mask": tokenizer.mask_token_id, "pad": tokenizer.pad_token_id, "cls": start, "sep": end}
        ids = {name: int(value) for name, value in found.items() if value is not None}
        if absent := ", ".join(sorted(found.keys() - ids.keys())):
            raise ConfigError(
                f"Masking needs a tokenizer with mask, pad, cls and sep tokens, and this one lacks {absent}; "
                "let pretune train one, or start from a masked language model."
            )
        words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        maskable = np.zeros(words[-1][1] + 1, dtype=bool)
        maskable[[token_id for _, token_id in words]] = True
        maskable[[i for i in tokenizer.all_special_ids if i < len(maskable)]] = False
        continues = _continuations(words, len(maskable)) & maskable
        ordinary = np.flatnonzero(maskable).astype(np.int64)
        return cls(ids["mask"], ids["pad"], ids["cls"], ids["sep"], maskable, ordinary, continues)


def _first(*values: int | None) -> int | None:
    return next((v for v in values if v is not None), None)


def _continuations(words: list[tuple[str, int]], size: int) -> Flags:
    """Marks "##ing" of WordPiece; of byte-level BPE and SentencePiece wordy pieces without a space mark."""
    table = np.zeros(size, dtype=bool)
    wordpiece = any(w.startswith("##") and len(w) > 2 for w, _ in words)
    spaced = any(w.startswith(("Ġ", "▁")) and len(w) > 1 for w, _ in words)
    for word, token_id in words:
        inner = any(c.isalnum() for c in word) and not word.startswith(("Ġ", "▁"))
        table[token_id] = word.startswith("##") if wordpiece else spaced and inner
    return table


def word_groups(ids: Ids, table: TokenTable) -> Ids:
    """Numbers the words of each row from left to right; ids (batch, length) to groups of the same shape."""
    starts = ~table.continues[ids]
    starts[:, 0] = True
    return np.cumsum(starts, axis=1) - 1


def mask_tokens(
    ids: Ids,
    table: TokenTable,
    rng: np.random.Generator,
    *,
    mask_rate: float,
    mask_share: float = 0.8,
    random_share: float = 0.1,
    whole_word: bool = False,
    span_length: int = 1,
) -> tuple[Ids, Ids]:
    """Hides a share of each row's tokens (dynamic masking: every call draws anew from `rng`).

    The number hidden is exact, ``round(mask_rate * maskable)`` and at least one, so that rows of equal length
    weigh the same on every process; whole words may stay below it, since no word is cut.

    Args:
        ids: Token ids, (batch, length), padded with the padding id.
        table: The vocabulary.
        rng: Source of all noise.
        mask_rate: Share of the maskable tokens to hide, 0 to 1.
        mask_share: Of the hidden, the share shown as the mask token (Devlin et al. 2019: 0.8).
        random_share: Of the hidden, the share shown as a random token; the rest is shown unchanged.
        whole_word: Hide all tokens of a word or none (BERT's whole-word masking).
        span_length: Tokens hidden side by side, for sequences without words.

    Returns:
        The noisy ids and the labels (`IGNORED` where nothing is hidden), both (batch, length).
    """
    hidden = _chosen(ids, table, rng, mask_rate, whole_word, span_length)
    labels = np.where(hidden, ids, IGNORED)
    noisy = ids.copy()
    draw = rng.random(int(hidden.sum()))
    random_ids = table.ordinary[rng.integers(len(table.ordinary), size=len(draw))]
    shown = np.where(draw < mask_share, table.mask_id, random_ids)
    noisy[hidden] = np.where(draw < mask_share + random_share, shown, ids[hidden])
    return noisy, labels


def _chosen(
    ids: Ids, table: TokenTable, rng: np.random.Generator, rate: float, whole_word: bool, span_length: int
) -> Flags:
    """Positions to hide: the tokens of each row are ranked by the random score of their word or span."""
    maskable = table.maskable[ids]
    available = maskable.sum(axis=1)
    wanted = np.minimum(np.maximum(np.rint(rate * available), 1), available).astype(np.int64)
    scores = rng.random(ids.shape)
    groups = _groups(ids, table, rng, whole_word, span_length)
    if groups is not None:
        scores = np.take_along_axis(scores, groups, axis=1)
    scores[~maskable] = 2.0
    order = np.argsort(scores, axis=1, kind="stable")
    hidden = np.zeros(ids.shape, dtype=bool)
    np.put_along_axis(hidden, order, np.arange(ids.shape[1]) < wanted[:, None], axis=1)
    if whole_word and groups is not None:
        _spare_cut_words(hidden, maskable, groups, order, wanted)
    return hidden


def _groups(ids: Ids, table: TokenTable, rng: np.random.Generator, whole_word: bool, span_length: int) -> Ids | None:
    if whole_word:
        return word_groups(ids, table)
    if span_length == 1:
        return None
    phase = rng.integers(span_length, size=(len(ids), 1))
    return (np.arange(ids.shape[1]) + phase) // span_length


def _spare_cut_words(hidden: Flags, maskable: Flags, groups: Ids, order: Ids, wanted: Ids) -> None:
    """Unhides the last word of a row when only its first tokens fitted, unless it is the row's only one."""
    rows = np.arange(len(hidden))
    last = groups[rows, order[rows, np.maximum(wanted - 1, 0)]]
    of_last = groups == last[:, None]
    cut = (of_last & maskable & ~hidden).any(axis=1) & (hidden & ~of_last).any(axis=1)
    hidden &= ~(of_last & cut[:, None])
