"""Unlabelled sound, decoded and resampled once, memory-mapped afterwards.

One flat file of 16-bit samples for all splits, with the end and a hash of each recording.
"""

from __future__ import annotations

__all__ = ["Pieces", "WaveCorpus", "open_or_build"]

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.modalities.base import Example
from pretune.record_corpus import built, rows_of, write_contents

_VERSION = 1
"""Part of every cache key: raise it when the files change."""


def open_or_build(
    recordings: Callable[[], Iterable[NDArray[np.int16]]], *, rate: int, cache: Path, key: str, split: str = "train"
) -> WaveCorpus:
    """Opens a split of a corpus; the first call with a key decodes the recordings, for all splits at once.

    Args:
        recordings: Gives the samples of each; not called when the cache has the key.
        rate: Samples a second.
        cache: Folder for all corpora; made when absent.
        key: Identifies the data; the rate is added to it.
        split: ``train``, ``valid`` (1 % of the recordings, or 50 of them and at most 10 %) or ``all``.

    Raises:
        ConfigError: An unknown split.
        DataError: A damaged recording (named), none at all, or too few different ones to hold one out.
    """

    def build(folder: Path) -> dict[str, Any]:
        _write(recordings(), folder)
        return {"rate": rate}

    return WaveCorpus(built("waves", (_VERSION, key, rate), build, cache=cache, split=split), split)


def _write(recordings: Iterable[NDArray[np.int16]], folder: Path) -> None:
    ends = [0]

    def contents() -> Iterator[bytes]:
        for samples in recordings:
            ends.append(ends[-1] + len(samples))
            yield samples.astype(np.int16).tobytes()

    write_contents(contents(), folder / "samples.bin", noun="recordings", sources="folder or table")
    np.save(folder / "ends.npy", np.array(ends, dtype=np.int64))


class WaveCorpus:
    """Read-only recordings; opening it reads none of them. Its length is in whole seconds of sound.

    Attributes:
        fingerprint: Identifies content, settings and split.
        rate: Samples a second.
    """

    def __init__(self, folder: Path, split: str) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        self._folder, self._split = folder, split
        self.fingerprint, self.rate = f"{meta['key']}-{split}", int(meta["rate"])
        ends = np.load(folder / "ends.npy")
        self._rows = rows_of(np.load(folder / "hashes.npy"), split, "recordings")
        self._starts, self._ends = ends[:-1][self._rows], ends[1:][self._rows]
        self._samples = np.memmap(folder / "samples.bin", dtype=np.int16, mode="r", shape=(int(ends[-1]),))

    def __len__(self) -> int:
        return round(int(self.lengths.sum()) / self.rate)

    def __reduce__(self) -> tuple[Any, ...]:
        return WaveCorpus, (self._folder, self._split)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Samples of each recording."""
        found: NDArray[np.int64] = self._ends - self._starts
        return found

    def read(self, recording: int, start: int, end: int) -> NDArray[np.int16]:
        """Samples `start` to `end` of a recording."""
        first = int(self._starts[recording])
        found: NDArray[np.int16] = np.asarray(self._samples[first + start : first + end])
        return found


class Pieces(Sequence[Example]):
    """Recordings as examples, ``{"input_values": int16 (samples,)}``; long ones in equal parts, nothing left out.

    Args:
        corpus: A `WaveCorpus`.
        most: Samples in the longest piece.
    """

    def __init__(self, corpus: Any, most: int) -> None:
        self.corpus: WaveCorpus = corpus
        lengths = corpus.lengths
        parts = np.maximum(1, -(-lengths // most))
        self._recording = np.repeat(np.arange(len(parts)), parts)
        part = np.concatenate([np.arange(p) for p in parts])
        whole, num = np.repeat(lengths, parts), np.repeat(parts, parts)
        self._start, self._end = whole * part // num, whole * (part + 1) // num

    def __len__(self) -> int:
        return len(self._recording)

    def __getitem__(self, index: Any) -> Any:
        start, end = int(self._start[index]), int(self._end[index])
        return {"input_values": self.corpus.read(int(self._recording[index]), start, end)}

    @property
    def lengths(self) -> list[int]:
        """Samples of each piece."""
        found: list[int] = (self._end - self._start).tolist()
        return found
