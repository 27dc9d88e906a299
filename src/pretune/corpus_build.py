"""Builds the files of a `TokenCorpus`: reads, encodes and writes at the same time, a batch in memory."""

from __future__ import annotations

__all__ = ["MAX_VALID_RATE", "VERSION", "Encode", "Plan", "build", "building"]

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pretune.errors import DataError
from pretune.sentences import Segmenter

VERSION = 1
"""Part of every cache key: raise it when the files change."""

MAX_VALID_RATE = 0.1
_MIN_VALID_DOCUMENTS, _MIN_VALID_TOKENS = 50, 20_000
_DRAWS = 1000
"""A document's hash draws a number below this; the lowest draws are held out."""

_BATCH_CHARACTERS = 1 << 19
_CHUNK_TOKENS = 1 << 20

Ints: TypeAlias = npt.NDArray[np.int32]
T = TypeVar("T")


class Encode(Protocol):
    """Texts to ids without special tokens."""

    def __call__(self, texts: list[str], /) -> Iterable[list[int]]:
        """Ids of each text; when lazy, they are read in the thread that writes."""


@dataclass(frozen=True)
class Plan:
    """What to build; see `pretune.corpus.open_or_build`. A `valid_rate` of None holds nothing out."""

    documents: Callable[[], Iterable[str]]
    encode: Encode
    special: dict[str, int]
    vocab_size: int
    sentences: bool
    valid_rate: float | None
    segment: Callable[[str], list[str]] | None = None


class _Texts(NamedTuple):
    """A batch of documents, cut into what is encoded: sentences or the documents themselves."""

    pieces: list[str]
    num_pieces: list[int]
    draws: list[int]


class _Block(NamedTuple):
    """Documents as flat arrays: ids; tokens a document; sentence ends; sentences a document; draws."""

    tokens: Ints
    lengths: Ints
    ends: Ints
    num_ends: Ints
    draws: Ints

    def where(self, keep: npt.NDArray[np.bool_]) -> _Block:
        tokens, ends = np.repeat(keep, self.lengths), np.repeat(keep, self.num_ends)
        lengths, num_ends = self.lengths[keep], self.num_ends[keep]
        return _Block(self.tokens[tokens], lengths, self.ends[ends], num_ends, self.draws[keep])


def build(plan: Plan, folder: Path, key: str) -> None:
    """Writes the corpus into `folder`, which appears complete or not at all, also after a kill.

    Raises:
        DataError: No documents, none with a token, or too few to hold one out.
    """
    with building(folder) as temporary:
        num_empty = _write_splits(plan, temporary)
        meta = {"key": key, "special": plan.special, "vocab_size": plan.vocab_size}
        meta |= {"sentences": plan.sentences, "num_empty": num_empty}
        (temporary / "meta.json").write_text(json.dumps(meta))


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends, meta.json and all, or is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    owner = f".building-{socket.gethostname()}-{os.getpid()}-"
    temporary = Path(tempfile.mkdtemp(prefix=owner, dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        if not (folder / "meta.json").is_file():  # else another process was first with the same content
            raise


def _remove_abandoned(cache: Path) -> None:
    for left in cache.glob(f".building-{socket.gethostname()}-*"):
        pid = left.name.split("-")[-2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)


def _write_splits(plan: Plan, folder: Path) -> int:
    if plan.valid_rate is None:
        num_empty = 0
        with _Writer(folder / "all.arrow", plan) as writer:
            for block, empty in _blocks(plan):
                writer.add(block)
                num_empty += empty
        return num_empty
    num_empty, found = _write_held_out(plan, folder, round(MAX_VALID_RATE * _DRAWS))
    if not found:  # a corpus of few documents: take the lowest draw there is
        num_empty, found = _write_held_out(plan, folder, _DRAWS)
    return num_empty


def _write_held_out(plan: Plan, folder: Path, num_candidates: int) -> tuple[int, bool]:
    """Writes train and valid; documents drawn below `num_candidates` wait until the threshold is known."""
    waiting, num_empty = folder / "waiting.arrow", 0
    documents, tokens = np.zeros(_DRAWS, np.int64), np.zeros(_DRAWS, np.int64)
    with _Writer(folder / "train.arrow", plan) as train:
        with _Writer(waiting, plan, draws=True) as candidates:
            for block, empty in _blocks(plan):
                num_empty += empty
                documents += np.bincount(block.draws, minlength=_DRAWS)
                tokens += np.bincount(block.draws, block.lengths, minlength=_DRAWS).astype(np.int64)
                waits = block.draws < num_candidates
                candidates.add(block.where(waits))
                train.add(block.where(~waits))
        threshold = _threshold(documents, tokens, plan.valid_rate or 0.0, num_candidates)
        with _Writer(folder / "valid.arrow", plan) as valid:
            for block in _read(waiting):
                valid.add(block.where(block.draws < threshold))
                train.add(block.where(block.draws >= threshold))
    waiting.unlink()
    return num_empty, threshold > 0


def _threshold(documents: npt.NDArray[Any], tokens: npt.NDArray[Any], rate: float, num_candidates: int) -> int:
    """Draws below it are held out; 0 when no candidate can be."""
    present = np.flatnonzero(documents[:num_candidates])
    if num_candidates == _DRAWS:
        if len(present) < 2:
            raise DataError(
                f"The corpus is {documents.sum()} document(s) of one content, so none can be held out; "
                "give more documents (--modality.boundary says what ends one) or held-out data as --valid."
            )
        return int(present[0]) + 1
    if len(present) == 0:
        return 0
    enough = (documents.cumsum() >= _MIN_VALID_DOCUMENTS) & (tokens.cumsum() >= _MIN_VALID_TOKENS)
    first = int(np.argmax(enough)) + 1 if enough.any() else num_candidates
    wanted = max(first, round(rate * _DRAWS), int(present[0]) + 1)
    return min(wanted, num_candidates)


def _blocks(plan: Plan) -> Iterator[tuple[_Block, int]]:
    """Encoded batches, each with its number of empty documents; reading, encoding and the caller overlap."""
    split = (plan.segment or Segmenter.learn(plan.documents()).split) if plan.sentences else None
    batches = _ahead(_batches(plan.documents(), split))
    found = False
    with _progress() as progress:
        bar, num_tokens, num_documents = progress.add_task("tokenising", tokens=0, documents=0), 0, 0
        for texts, ids in _ahead((b, plan.encode(b.pieces)) for b in batches):
            block, empty = _block(texts, ids, plan.special["sep"])
            num_tokens, num_documents = num_tokens + len(block.tokens), num_documents + len(block.lengths)
            progress.update(bar, tokens=num_tokens, documents=num_documents)
            if len(block.lengths):
                found = True
            yield block, empty
    if not found:
        raise DataError("The corpus has no documents with any token in them; give a source with text.")


def _ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, the next one being made in a thread while the caller works on the last."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, iterator, end)
        while (item := pending.result()) is not end:
            pending = pool.submit(next, iterator, end)
            yield item  # type: ignore[misc]


def _batches(documents: Iterable[str], split: Callable[[str], list[str]] | None) -> Iterator[_Texts]:
    batch, size = _Texts([], [], []), 0
    for text in documents:
        pieces = [text] if split is None else split(text)
        batch.pieces.extend(pieces)
        batch.num_pieces.append(len(pieces))
        batch.draws.append(_draw(text))
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = _Texts([], [], []), 0
    if batch.draws:
        yield batch


def _draw(text: str) -> int:
    digest = hashlib.blake2b(text.strip().encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _DRAWS


def _block(texts: _Texts, ids: Iterable[list[int]], sep: int) -> tuple[_Block, int]:
    """Flat arrays of a batch, without documents that have no token, and with `sep` after each document."""
    lists = list(ids)
    sizes = np.fromiter(map(len, lists), np.int64, len(lists))
    flat = np.fromiter(itertools.chain.from_iterable(lists), np.int32, int(sizes.sum()))
    document = np.repeat(np.arange(len(texts.num_pieces)), texts.num_pieces)
    lengths = np.bincount(document, sizes, minlength=len(texts.num_pieces)).astype(np.int64)
    document_start = lengths.cumsum() - lengths
    kept_pieces = sizes > 0
    ends = (sizes.cumsum() - document_start[document])[kept_pieces]
    num_ends = np.bincount(document[kept_pieces], minlength=len(lengths))
    kept = lengths > 0
    tokens = np.insert(flat, lengths.cumsum()[kept], np.int32(sep))
    small = [a.astype(np.int32) for a in (lengths[kept] + 1, ends, num_ends[kept], np.asarray(texts.draws)[kept])]
    return _Block(tokens, *small), int((~kept).sum())


class _Writer:
    """Appends blocks to an Arrow file in record batches of about a million tokens, and counts ids."""

    def __init__(self, file: Path, plan: Plan, *, draws: bool = False) -> None:
        self._file, self._sentences, self._draws = file, plan.sentences, draws
        self._blocks: list[_Block] = []
        self._size = 0
        self._counts = np.zeros(plan.vocab_size, np.int64)

    def __enter__(self) -> _Writer:
        lists = pa.list_(pa.int32())
        names = {"tokens": lists} | ({"ends": lists} if self._sentences else {})
        names |= {"draw": pa.int32()} if self._draws else {}
        self._schema = pa.schema(names)
        self._sink = pa.OSFile(str(self._file), "wb")
        self._writer = pa.ipc.new_file(self._sink, self._schema)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        with self._sink, self._writer:
            if kind is None:
                self._flush()
        if kind is None and not self._draws:
            np.save(self._file.with_suffix(".counts.npy"), self._counts)

    def add(self, block: _Block) -> None:
        if not len(block.lengths):
            return
        self._blocks.append(block)
        self._size += len(block.tokens)
        self._counts += np.bincount(block.tokens, minlength=len(self._counts))
        if self._size >= _CHUNK_TOKENS:
            self._flush()

    def _flush(self) -> None:
        if not self._blocks:
            return
        whole = _Block(*(np.concatenate(parts) for parts in zip(*self._blocks, strict=True)))
        arrays = [_list_array(whole.tokens, whole.lengths)]
        arrays += [_list_array(whole.ends, whole.num_ends)] if self._sentences else []
        arrays += [pa.array(whole.draws)] if self._draws else []
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._blocks, self._size = [], 0


def _list_array(values: Ints, sizes: Ints) -> pa.ListArray:
    offsets = np.concatenate([np.zeros(1, np.int32), sizes.cumsum(dtype=np.int32)])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def _read(file: Path) -> Iterator[_Block]:
    """The blocks of a waiting file, one record batch in memory at a time."""
    with pa.OSFile(str(file)) as source:
        reader = pa.ipc.open_file(source)
        for i in range(reader.num_record_batches):
            batch = reader.get_batch(i)
            tokens, draws = batch.column("tokens"), batch.column("draw").to_numpy()
            ends = batch.column("ends") if "ends" in batch.schema.names else None
            nothing = np.zeros(0, np.int32)
            yield _Block(
                tokens.values.to_numpy(),
                np.diff(tokens.offsets.to_numpy()),
                nothing if ends is None else ends.values.to_numpy(),
                np.zeros(len(draws), np.int32) if ends is None else np.diff(ends.offsets.to_numpy()),
                draws,
            )


def _progress() -> Progress:
    columns = ("{task.description}", "{task.fields[documents]:,} documents", "{task.fields[tokens]:,} tokens")
    console = Console(stderr=True)
    texts = [TextColumn(c) for c in columns]
    return Progress(
        SpinnerColumn(),
        *texts,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
