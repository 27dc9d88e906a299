"""Which sequences are near each other, by the k-mers that they share: an estimate of homology, no alignment."""

from __future__ import annotations

__all__ = ["Near", "clusters", "clusters_of", "near", "nearest", "nearest_of"]

import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pretune.errors import ConfigError
from pretune.kmers import Kmers, Shared

_FREQUENT = 100
"""Owners of a k-mer from which on its sequences are first compared with one centre, not each with each."""

_COPY = 0.8
"""Shared k-mers from which on a sequence is as its centre and need not be compared with others."""

_MUCH, _WORK = 2e8, 4e9
"""Pairs of equal k-mers from which on near copies are taken out first, and beyond which k-mers are sampled."""

_LEAST = 4
"""Common k-mers: a run of one letter has one k-mer, which much else has too, so fewer say nothing."""

_ROWS = 500


class Near(NamedTuple):
    """When sequences are near: their share of common k-mers, of letters on one strand or both."""

    k: int
    identity: float
    strands: int


def near(modality: str, longest: int = 0) -> Near:
    """What is near by default, for ``protein`` or ``dna``.

    Proteins: 30 % of the 5-mers of the shorter one; DNA: 50 % of the 12-mers, on either strand. Between random
    sequences of `longest` letters (chromosomes) so many 12-mers would be common by chance, so k is then larger.
    """
    if modality == "protein":
        return Near(5, 0.3, 1)
    return Near(max(12, math.ceil(math.log(max(longest, 1), 4)) + 4), 0.5, 2)


def clusters(
    sequences: Iterable[str], *, k: int = 5, identity: float = 0.3, strands: int = 1, mmseqs: bool = False
) -> NDArray[np.int64]:
    """Single-linkage clusters of near sequences: numbers from 0, in the order of first members.

    Two sequences are near when they share at least `identity` of the distinct k-mers of the one that has fewer, and
    four. Under independent substitutions a share s stands for an identity of about s**(1/k) over the common part:
    0.3 of 5-mers for 79 %, 0.5 of 12-mers for 94 %. So close relatives are found, remote homologues are not: MMseqs2
    finds more of them.

    K-mers are sampled by their hashes when there are more than 24 million, or too many pairs of equal ones (large
    families). Where there are many, a near copy (80 %) of a sequence is compared with that alone.

    Args:
        sequences: Letters; case, and U for T on two strands, make no difference. K-mers with X (DNA: other than
            A, C, G, T) do not count. Sequences without k-mers are near equal ones alone.
        k: Letters of a k-mer.
        identity: The share from which on sequences are near.
        strands: 2 for DNA: a sequence is as its reverse complement; 1 for any other letters.
        mmseqs: Use ``mmseqs easy-cluster`` instead, `identity` being that of its alignments, `k` unused.

    Raises:
        ConfigError: An option out of its range, or `mmseqs` is wanted and not on the PATH.
    """
    _require(k, identity, strands)
    if mmseqs:
        return _mmseqs(list(sequences), identity)
    return clusters_of(Kmers(k, strands, sequences), identity)


def clusters_of(kmers: Kmers, identity: float) -> NDArray[np.int64]:
    """The same, of k-mers that were collected before."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, first, same = np.unique(kmers.whole, return_index=True, return_inverse=True)
    rest = np.sort(first)
    links = [np.stack([first[same], np.arange(len(same))])]
    shared = kmers.shared(rest)
    if shared.cost > _MUCH:
        a, b = _copies(shared)
        links.append(np.stack([rest[a], rest[b]]))
        rest = np.delete(rest, a)
        shared = kmers.shared(rest, work=_WORK)
    links += [np.stack([rest[a], rest[b]]) for a, b in _pairs(shared, shared, identity)]
    a, b = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(len(same), len(same)))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _pairs(these: Shared, those: Shared, identity: float) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    for a, b, shares in _compared(these, those):
        kept = shares >= identity
        yield a[kept], b[kept]


def _compared(these: Shared, those: Shared) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]]:
    """Numbers of some of these, numbers of those, and the share of k-mers that are common to both."""
    turned = those.owned.T.tocsr()
    for start in range(0, these.owned.shape[0], _ROWS):
        counts = (these.owned[start : start + _ROWS] @ turned).tocoo()
        kept = counts.data >= _LEAST
        a, b = counts.row[kept] + start, counts.col[kept]
        yield a, b, counts.data[kept] / np.minimum(these.sizes[a], those.sizes[b])


def _copies(shared: Shared) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sequences that are near copies of one with frequent k-mers, and that one."""
    order = np.argsort(-shared.sizes, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    turned = shared.owned.tocsc()
    owners = np.diff(turned.indptr)
    ends = turned.indptr[:-1][owners > 0]
    best = np.minimum.reduceat(rank[turned.indices], ends)
    centres = order[np.unique(best[owners[owners > 0] > _FREQUENT])]
    found = list(_pairs(shared, Shared(shared.owned[centres], shared.sizes[centres]), _COPY))
    a = np.concatenate([x for x, _ in found])
    b = centres[np.concatenate([y for _, y in found])]
    later = rank[a] > rank[b]
    a, first = np.unique(a[later], return_index=True)
    return a, b[later][first]


def nearest(
    test: Iterable[str], train: Iterable[str], *, k: int = 5, identity: float = 0.3, strands: int = 1
) -> NDArray[np.float64]:
    """For each test sequence the greatest share of k-mers with any training sequence, 0 to 1 (1 also when equal).

    Arguments and what a share means: see `clusters`; shares below `identity` are given as they are found.

    Raises:
        ConfigError: An option out of its range.
    """
    _require(k, identity, strands)
    kmers = Kmers(k, strands, train)
    count = len(kmers)
    for sequence in test:
        kmers.add(sequence)
    return nearest_of(kmers, count)


def nearest_of(kmers: Kmers, count: int) -> NDArray[np.float64]:
    """The same of k-mers that were collected before: the first `count` are the training sequences."""
    every = kmers.shared(np.arange(len(kmers)), work=_WORK)
    train = Shared(every.owned[:count], every.sizes[:count])
    test = Shared(every.owned[count:], every.sizes[count:])
    found = np.isin(kmers.whole[count:], kmers.whole[:count]).astype(float)
    for a, _, shares in _compared(test, train):
        np.maximum.at(found, a, shares)
    return found


def _require(k: int, identity: float, strands: int) -> None:
    if k < 2 or not 0 < identity <= 1 or strands not in (1, 2):
        raise ConfigError(
            f"Expected k from 2, identity above 0 and up to 1, strands 1 or 2; found {k}, {identity} and {strands}."
        )


def _mmseqs(sequences: list[str], identity: float) -> NDArray[np.int64]:
    program = shutil.which("mmseqs")
    if program is None:
        raise ConfigError("mmseqs is not on the PATH; install MMseqs2, or leave mmseqs out.")
    with tempfile.TemporaryDirectory() as folder:
        fasta, out = Path(folder, "all.fasta"), Path(folder, "out")
        fasta.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(sequences)))
        options = ["--min-seq-id", str(identity), "--cluster-mode", "1"]
        command = [program, "easy-cluster", str(fasta), str(out), str(Path(folder, "tmp")), *options]
        subprocess.run(command, check=True, capture_output=True)
        rows = [line.split() for line in Path(f"{out}_cluster.tsv").read_text().splitlines()]
    head = {int(member): int(centre) for centre, member in rows}
    return np.unique([head[i] for i in range(len(sequences))], return_inverse=True)[1].astype(np.int64)
