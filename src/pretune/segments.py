"""Views of a token corpus (fixed blocks, windows of whole sentences) and rows of tokens as padded arrays."""

from __future__ import annotations

__all__ = ["Blocks", "TokenStream", "Windows", "framed", "padded", "token_batch", "unigram_entropy"]

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pretune.errors import DataError
from pretune.masking import Ids, TokenTable
from pretune.modalities.base import Batch, Example


class TokenStream(Protocol):
    """What token objectives ask of a corpus."""

    fingerprint: str
    special: Mapping[str, int]
    num_documents: int

    def __len__(self) -> int: ...

    def slice(self, start: int, stop: int) -> NDArray[Any]:
        """Token ids from start to stop."""

    def window(self, position: int, length: int) -> Sequence[NDArray[Any]]:
        """Consecutive whole sentences of one document, at most `length` tokens together."""

    def document_at(self, position: int) -> int:
        """The number of the document that holds a position."""

    def counts(self) -> NDArray[Any]:
        """Frequency of each token id."""


class Blocks(Sequence[Example]):
    """The stream in blocks of `length` tokens with start and end token; the last overlaps, none is short."""

    def __init__(self, corpus: Any, length: int) -> None:
        _check_not_empty(corpus)
        self.corpus = corpus
        self.num_inner = min(length - 2, len(corpus))
        self._ends = [np.array([corpus.special[name]], dtype=np.int32) for name in ("cls", "sep")]

    def __len__(self) -> int:
        return -(-len(self.corpus) // self.num_inner)

    def __getitem__(self, index: Any) -> Any:
        i = range(len(self))[index]
        stop = min((i + 1) * self.num_inner, len(self.corpus))
        inner = self.corpus.slice(stop - self.num_inner, stop)
        return {"input_ids": np.concatenate((self._ends[0], inner, self._ends[1]))}


class Windows(Sequence[Example]):
    """Windows of whole sentences of one document; the seed shifts where they begin.

    One window for `length` tokens of the stream, or for each document where these are shorter: a window holds
    no second document, and a wider stride would never reach most of them.
    """

    def __init__(self, corpus: Any, length: int, *, seed: int) -> None:
        _check_not_empty(corpus)
        self.corpus = corpus
        self.length = length
        self.stride = max(1, min(length, len(corpus) // corpus.num_documents))
        self.shift = int(np.random.default_rng(seed).integers(self.stride))

    def __len__(self) -> int:
        return -(-len(self.corpus) // self.stride)

    def __getitem__(self, index: Any) -> Any:
        position = (range(len(self))[index] * self.stride + self.shift) % len(self.corpus)
        sentences = self.corpus.window(position, self.length)
        return {"sentences": list(sentences), "document": self.corpus.document_at(position)}


def _check_not_empty(corpus: Any) -> None:
    if len(corpus) == 0:
        raise DataError("The corpus holds no tokens; give text with at least one non-empty line.")


def padded(rows: Sequence[NDArray[Any]], pad_id: int) -> tuple[Ids, Ids]:
    """Rows of unequal length to ids (batch, longest) and lengths (batch,)."""
    lengths = np.fromiter((len(r) for r in rows), dtype=np.int64, count=len(rows))
    ids = np.full((len(rows), int(lengths.max())), pad_id, dtype=np.int64)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return ids, lengths


def framed(ids: Ids, lengths: Ids, table: TokenTable, num_max: int) -> tuple[Ids, Ids]:
    """Puts the start token before and the end token after each row, cut to `num_max` tokens."""
    lengths = np.minimum(lengths, num_max - 2)
    out = np.full((len(ids), int(lengths.max()) + 2), table.pad_id, dtype=np.int64)
    out[:, 0] = table.cls_id
    inner = np.arange(out.shape[1] - 2) < lengths[:, None]
    out[:, 1:-1][inner] = ids[:, : inner.shape[1]][inner]
    out[np.arange(len(ids)), lengths + 1] = table.sep_id
    return out, lengths + 2


def token_batch(lengths: Ids, **arrays: NDArray[Any]) -> Batch:
    """Arrays to tensors; an attention mask is added only when something is padded: without it is faster."""
    width = arrays["input_ids"].shape[1]
    batch: Batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if int(lengths.min()) < width:
        batch["attention_mask"] = torch.from_numpy((np.arange(width) < lengths[:, None]).astype(np.int64))
    return batch


def unigram_entropy(counts: NDArray[Any]) -> float:
    """Entropy in nats of the token frequencies: the loss of a model that knows word frequency and no more."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum())
