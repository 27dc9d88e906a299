"""Hashed k-mers of many sequences, and which sequences have which of them in common with others."""

from __future__ import annotations

__all__ = ["Kmers", "Shared"]

import hashlib
from array import array
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pretune.alphabets import reverse_complement

_KEPT = 24_000_000
"""K-mers in memory (some 30 bytes each while they are compared); beyond, half of them go, by their hashes."""

_LEAST = 64
"""K-mers a sequence (in the median) that sampling leaves, as shares would be chance with fewer."""

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


class Shared(NamedTuple):
    """Which sequences have which k-mers.

    Attributes:
        owned: Sparse, a row a sequence, a column a k-mer that several have.
        sizes: Distinct k-mers of each sequence, those of its own included.
    """

    owned: Any
    sizes: NDArray[np.int64]

    @property
    def cost(self) -> float:
        """Pairs of equal k-mers."""
        return float((np.bincount(self.owned.indices).astype(float) ** 2).sum()) if self.owned.nnz else 0.0


class Kmers:
    """Distinct k-mers of sequences that are added one by one; the sequences themselves are not kept.

    Args:
        k: Letters of a k-mer.
        strands: 2 for DNA, where a k-mer is as its reverse complement.
        sequences: The first ones.
    """

    def __init__(self, k: int, strands: int, sequences: Iterable[str] = ()) -> None:
        self.k, self._both = k, strands == 2
        self._whole = array("Q")
        self._pieces: list[NDArray[np.uint64]] = []
        self._limit, self._count = np.iinfo(np.uint64).max, 0
        legal = b"ACGT" if self._both else b"ABCDEFGHIJKLMNOPQRSTUVWYZ"
        self._legal = np.isin(np.arange(256), np.frombuffer(legal, np.uint8))
        for sequence in sequences:
            self.add(sequence)

    def __len__(self) -> int:
        return len(self._whole)

    @property
    def whole(self) -> NDArray[np.uint64]:
        """A hash of each sequence; on both strands, the same for its reverse complement."""
        return np.array(self._whole, dtype=np.uint64)

    def add(self, sequence: str, *, compared: bool = True) -> int:
        """Takes in the next sequence, with its k-mers or (not `compared`) as a whole alone; returns its hash."""
        letters = sequence.upper().replace("U", "T") if self._both else sequence.upper()
        text = letters.encode("ascii", "replace")
        turned = reverse_complement(letters).encode("ascii", "replace") if self._both else text
        digest = hashlib.blake2b(min(text, turned), digest_size=8).digest()
        self._whole.append(int.from_bytes(digest, "big"))
        if not compared:
            self._pieces.append(np.zeros(0, np.uint64))
            return self._whole[-1]
        found = np.sort(self._hashes(text, turned))
        found = found[np.concatenate(([True], found[1:] != found[:-1]))[: len(found)]]  # np.unique takes thrice as long
        self._pieces.append(found[found <= self._limit])
        self._count += len(self._pieces[-1])
        while self._count > _KEPT:
            self._limit //= 2
            self._pieces = [p[p <= self._limit].copy() for p in self._pieces]
            self._count = sum(map(len, self._pieces))
        return self._whole[-1]

    def _hashes(self, text: bytes, turned: bytes) -> NDArray[np.uint64]:
        letters = np.frombuffer(text, np.uint8)
        if len(letters) < self.k:
            return np.zeros(0, np.uint64)
        found = _rolled(letters, self.k)
        if self._both:
            found = np.minimum(found, _rolled(np.frombuffer(turned, np.uint8), self.k)[::-1])
        wrong = np.concatenate(([0], np.cumsum(~self._legal[letters])))
        return found[wrong[self.k :] == wrong[: -self.k]]

    def shared(self, chosen: NDArray[np.int64], work: float | None = None) -> Shared:
        """The k-mers of the sequences of these numbers, sampled to about `work` pairs of equal ones."""
        from scipy.sparse import csr_array

        pieces = [self._pieces[i] for i in chosen]
        sizes = np.array([len(p) for p in pieces], np.int64)
        owners = np.repeat(np.arange(len(pieces), dtype=np.int32), sizes)
        flat = np.concatenate([np.zeros(0, np.uint64), *pieces])
        order = np.argsort(flat)
        flat, owners = flat[order], owners[order]
        fresh = np.concatenate(([True], flat[1:] != flat[:-1]))[: len(flat)]
        counts = np.diff(np.append(np.flatnonzero(fresh), len(flat)))
        several = np.repeat(counts > 1, counts)
        columns = (np.cumsum(fresh[several]) - 1).astype(np.int32)
        cost = float((counts[counts > 1].astype(float) ** 2).sum())
        part = max(work / cost, _LEAST / max(float(np.median(sizes)), 1)) if work and cost > work else 1.0
        if part < 1:
            limit = np.uint64(int(int(flat[-1]) * part))
            sizes = np.bincount(owners[flat <= limit], minlength=len(pieces))
            columns = columns[flat[several] <= limit]
        entries = (np.ones(len(columns), np.int32), (owners[several][: len(columns)], columns))
        return Shared(csr_array(entries, shape=(len(pieces), int(columns[-1]) + 1 if len(columns) else 1)), sizes)


def _rolled(letters: NDArray[np.uint8], k: int) -> NDArray[np.uint64]:
    """A 64-bit hash of each k letters in a row."""
    count = len(letters) - k + 1
    found = np.zeros(count, np.uint64)
    for i in range(k):
        found *= _BASE
        found += letters[i : i + count]
    for shift in (30, 27):
        found ^= found >> np.uint64(shift)
        found *= _MIX
    return found ^ (found >> np.uint64(31))
