"""Random sequences with the neighbouring pairs of a given one: the control for what composition alone explains."""

from __future__ import annotations

__all__ = ["dinucleotide_shuffle"]

from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def dinucleotide_shuffle(sequence: Sequence[int], rng: np.random.Generator) -> list[int]:
    """A random order of the symbols in which each symbol follows each other one as often as before.

    Every such order is equally probable (Altschul & Erickson 1985). A sequence is a walk over the graph of its
    neighbouring pairs that takes each edge once; the last edges out of all symbols form a tree towards the final
    symbol, which is drawn as Wilson (1996) does, by loop-erased random walks; the other edges come in random order.

    Args:
        sequence: Symbols, (letters,); the first and the last stay in place.
        rng: Source of randomness.

    Returns:
        Shape (letters,).
    """
    symbols = [int(s) for s in sequence]
    if len(symbols) < 4:
        return symbols
    following: dict[int, list[int]] = {s: [] for s in symbols}
    for before, after in pairwise(symbols):
        following[before].append(after)
    for symbol, last in _last_edges(following, symbols[-1], rng).items():
        following[symbol].remove(last)
        rng.shuffle(following[symbol])
        following[symbol].append(last)
    if (end := symbols[-1]) in following:
        rng.shuffle(following[end])
    walk = [symbols[0]]
    steps = {s: iter(edges) for s, edges in following.items()}
    for _ in symbols[1:]:
        walk.append(next(steps[walk[-1]]))
    return walk


def _last_edges(following: dict[int, list[int]], end: int, rng: np.random.Generator) -> dict[int, int]:
    """A random tree of edges towards `end`: the next symbol of each; counts of pairs are its weights."""
    tree: dict[int, int] = {}
    for start in following:
        at, chosen = start, {}
        while at != end and at not in tree:
            chosen[at] = following[at][rng.integers(len(following[at]))]
            at = chosen[at]
        at = start
        while at != end and at not in tree:
            tree[at] = chosen[at]
            at = tree[at]
    return tree
