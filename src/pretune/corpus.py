"""A tokenised corpus larger than memory: built once in a stream, memory-mapped afterwards.

One Arrow file a split; a row is a document: ``tokens`` (its ids, then the separator's) and, where sentences
were asked for, ``ends`` (the end of each sentence, counted from the document's start). Building and reading
hold nothing but the batch at hand in memory.
"""

from __future__ import annotations

__all__ = ["Encode", "TokenCorpus", "corpus_key", "encoder_of", "open_or_build"]

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

from pretune import corpus_build
from pretune.corpus_build import Encode
from pretune.errors import ConfigError

Ids: TypeAlias = npt.NDArray[np.int32]

SPLITS = ("train", "valid", "all")


def encoder_of(tokenizer: Tokenizer) -> Encode:
    """The fastest way from texts to ids with a `tokenizers` tokenizer: all cores, no special tokens."""
    own = Tokenizer.from_str(tokenizer.to_str())
    own.no_truncation()
    own.no_padding()

    def encode(texts: list[str]) -> Iterable[list[int]]:
        # reading ids holds the GIL: a generator leaves that to the thread that writes
        return (e.ids for e in own.encode_batch_fast(texts, add_special_tokens=False))

    return encode


def corpus_key(*parts: Any) -> str:
    """A cache key from everything that decides the content: data fingerprint, tokenizer, settings."""
    text = json.dumps([corpus_build.VERSION, *parts], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def open_or_build(
    documents: Callable[[], Iterable[str]],
    *,
    encode: Encode,
    special: Mapping[str, int],
    vocab_size: int,
    cache: Path,
    key: str,
    split: str = "train",
    sentences: bool = False,
    valid_rate: float = 0.01,
    segment: Callable[[str], list[str]] | None = None,
) -> TokenCorpus:
    """Opens a split of a corpus; the first call with a key tokenises the documents, for all splits at once.

    Held out are the documents whose content hashes lowest, so equal ones are never on both sides: a share of
    `valid_rate`, or more (up to 0.1) until 50 documents and 20,000 tokens are held out.

    Args:
        documents: Gives a new stream of document texts at each call; not called when the cache has the key.
        encode: Texts to ids, without special tokens.
        special: Ids by role; ``sep`` ends every document.
        vocab_size: Ids are below it.
        cache: Folder for all corpora; made when absent.
        key: See `corpus_key`; the arguments below are added to it.
        split: ``train``, ``valid``, or ``all`` (nothing held out).
        sentences: Also segment documents into sentences, for `TokenCorpus.window`.
        valid_rate: Share of the documents to hold out, in (0, 0.1].
        segment: Cuts a document into its sentences; None learns from the texts where sentences end.

    Raises:
        ConfigError: An unknown split, or a `valid_rate` out of range.
        DataError: No documents, none with a token, or too few to hold one out.
    """
    if split not in SPLITS:
        raise ConfigError(f'There is no corpus split "{split}"; there are: {", ".join(SPLITS)}.')
    if not 0 < valid_rate <= corpus_build.MAX_VALID_RATE:
        raise ConfigError(f"valid_rate must be above 0 and at most 0.1; found {valid_rate}.")
    full_key = corpus_key(key, special, vocab_size, sentences, "all" if split == "all" else valid_rate)
    folder = cache / f"corpus-{full_key}"
    if not (folder / "meta.json").is_file():
        plan = corpus_build.Plan(
            documents=documents,
            encode=encode,
            special=dict(special),
            vocab_size=vocab_size,
            sentences=sentences,
            valid_rate=None if split == "all" else valid_rate,
            segment=segment,
        )
        corpus_build.build(plan, folder, full_key)
    return TokenCorpus(folder, split)


class TokenCorpus:
    """A read-only, memory-mapped stream of token ids; opening it reads no tokens, whatever its size.

    Attributes:
        fingerprint: Identifies content, tokenizer, settings and split.
        special: Ids by role, e.g. ``{"cls": 2, "sep": 3, "mask": 4, "pad": 0}``.
        vocab_size: Ids are below it.
        num_documents: Documents of this split.
        num_empty: Documents of the source that had no token and are in no split.
    """

    def __init__(self, folder: Path, split: str) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        self._folder, self._split = folder, split
        self.fingerprint = f"{meta['key']}-{split}"
        self.special: dict[str, int] = meta["special"]
        self.vocab_size: int = meta["vocab_size"]
        self.num_empty: int = meta["num_empty"]
        self.has_sentences: bool = meta["sentences"]
        reader = pa.ipc.open_file(pa.memory_map(str(folder / f"{split}.arrow")))
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self._tokens, self._documents = _lists(batches, "tokens")
        self._ends, self._sentences = _lists(batches, "ends") if self.has_sentences else ([], [])
        self._starts = _starts(len(t) for t in self._tokens)
        self._first_document = _starts(len(d) - 1 for d in self._documents)
        self.num_documents = int(self._first_document[-1])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenCorpus, (self._folder, self._split)

    def slice(self, start: int, stop: int) -> Ids:
        """Ids ``start`` to ``stop`` of the flat stream: a read-only view, or a copy where chunks meet.

        Raises:
            IndexError: Unless ``0 <= start <= stop <= len(self)``.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"slice {start}:{stop} is not inside 0:{len(self)}")
        chunk = self._chunk_of(start)
        begin = int(self._starts[chunk])
        if stop <= self._starts[chunk + 1]:
            return self._tokens[chunk][start - begin : stop - begin]
        last = self._chunk_of(stop - 1)
        whole = np.concatenate(self._tokens[chunk : last + 1])
        return whole[start - begin : stop - begin]

    def document_at(self, position: int) -> int:
        """Number of the document (0 to `num_documents` - 1) that holds the token at `position`."""
        chunk, document, _ = self._locate(position)
        return int(self._first_document[chunk]) + document

    def document(self, index: int) -> tuple[int, int]:
        """Start and stop in the flat stream of a document; its last token is the separator."""
        if not 0 <= index < self.num_documents:
            raise IndexError(f"document {index} is not inside 0:{self.num_documents}")
        chunk = int(np.searchsorted(self._first_document, index, side="right")) - 1
        offsets, local = self._documents[chunk], index - int(self._first_document[chunk])
        begin = int(self._starts[chunk])
        return begin + int(offsets[local]), begin + int(offsets[local + 1])

    def window(self, position: int, length: int) -> list[Ids]:
        """Whole consecutive sentences of one document, at most `length` tokens together.

        They start with the first sentence that starts at or after `position`, perhaps in the next document;
        after the last document comes the first. A first sentence longer than `length` is truncated to it.

        Raises:
            ConfigError: The corpus was built without sentences.
            IndexError: `position` is outside the corpus.
        """
        if not self.has_sentences:
            raise ConfigError("This corpus was built without sentences; build it with sentences=True.")
        chunk, document, offset = self._locate(position)
        ends = self._sentence_ends(chunk, document)
        first = 0 if offset == 0 else int(np.searchsorted(ends, offset)) + 1
        if first >= len(ends):
            chunk, document = self._after(chunk, document)
            ends, first = self._sentence_ends(chunk, document), 0
        begin = int(ends[first - 1]) if first else 0
        last = int(np.searchsorted(ends, begin + length, side="right"))
        stops = ends[first:last].tolist() or [begin + length]
        shift = int(self._documents[chunk][document])
        tokens = self._tokens[chunk]
        return [tokens[shift + a : shift + b] for a, b in zip([begin, *stops[:-1]], stops, strict=True)]

    def counts(self) -> npt.NDArray[np.int64]:
        """How often each id occurs, shape (vocab_size,); counted when it was built, separators included."""
        return self._counts

    @cached_property
    def _counts(self) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = np.load(self._folder / f"{self._split}.counts.npy")
        return found

    def _chunk_of(self, position: int) -> int:
        chunk = int(np.searchsorted(self._starts, position, side="right")) - 1
        return min(chunk, len(self._tokens) - 1)

    def _locate(self, position: int) -> tuple[int, int, int]:
        """Chunk, document in the chunk, and offset in the document."""
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} is not inside 0:{len(self)}")
        chunk = self._chunk_of(position)
        local = position - int(self._starts[chunk])
        document = int(np.searchsorted(self._documents[chunk], local, side="right")) - 1
        return chunk, document, local - int(self._documents[chunk][document])

    def _after(self, chunk: int, document: int) -> tuple[int, int]:
        if document + 2 < len(self._documents[chunk]):
            return chunk, document + 1
        return (chunk + 1) % len(self._tokens), 0

    def _sentence_ends(self, chunk: int, document: int) -> Ids:
        offsets = self._sentences[chunk]
        return self._ends[chunk][offsets[document] : offsets[document + 1]]


def _lists(batches: list[pa.RecordBatch], column: str) -> tuple[list[Ids], list[Ids]]:
    """Values and offsets of a list column, as views of the mapped file."""
    arrays = [batch.column(column) for batch in batches]
    return [a.values.to_numpy() for a in arrays], [a.offsets.to_numpy() for a in arrays]


def _starts(sizes: Iterable[int]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *sizes], dtype=np.int64)
