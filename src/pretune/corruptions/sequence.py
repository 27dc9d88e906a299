"""Substitutions in DNA and proteins, as errors of reading and as evolution make them; nothing is inserted or lost."""

from __future__ import annotations

__all__ = ["DNA_CORRUPTIONS", "PROTEIN_CORRUPTIONS"]

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pretune.alphabets import DNA, PROTEIN, Alphabet
from pretune.corruptions.base import Corruption, Record

Table: TypeAlias = NDArray[np.float64]
"""Row by row, the cumulative probability of each letter to come in place of one; the diagonal has none."""


def _normal(weights: NDArray[np.float64]) -> Table:
    np.fill_diagonal(weights, 0)
    return np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)


@cache
def _any(num_letters: int) -> Table:
    return _normal(np.ones((num_letters, num_letters)))


@cache
def _transitions() -> Table:
    """A and G, and C and T, replace each other; transversions a tenth as often each."""
    weights = np.full((4, 4), 0.1)
    for a, b in ("AG", "CT"):
        weights[[DNA.standard.index(a), DNA.standard.index(b)], [DNA.standard.index(b), DNA.standard.index(a)]] = 1.0
    return _normal(weights)


@cache
def _conservative() -> Table:
    """Odds of BLOSUM62 (Henikoff & Henikoff 1992): scores are half-bits of how often letters stand for each other."""
    from pretune.sequence_baselines import blosum62

    return _normal(2 ** (blosum62() / 2))


def _letters(table: Table, alphabet: Alphabet, text: str, rate: float, rng: np.random.Generator) -> str:
    """Each standard letter is replaced with probability `rate`; others stay."""
    place = _place(alphabet)
    hit, choice = rng.random(len(text)), rng.random(len(text))
    return "".join(
        c if u >= rate or c.upper() not in place else alphabet.standard[_which(table[place[c.upper()]], v)]
        for c, u, v in zip(text, hit, choice, strict=True)
    )


def _which(row: NDArray[np.float64], at: float) -> int:
    return min(int(np.searchsorted(row, at, side="right")), len(row) - 1)


def _place(alphabet: Alphabet) -> Mapping[str, int]:
    found = {c: i for i, c in enumerate(alphabet.standard)}
    return found | {other: found[c] for other, c in alphabet.folded.items()}


def _change(
    table: Callable[[], Table], alphabet: Alphabet, record: Record, rate: float, rng: np.random.Generator
) -> Record:
    found = dict(record)
    if record.get("tokens") is not None:
        found["tokens"] = list(_letters(table(), alphabet, "".join(record["tokens"]), rate, rng))
    if isinstance(record.get("sequence"), str):
        found["sequence"] = _letters(table(), alphabet, record["sequence"], rate, rng)
    return found


_RATES = (0.01, 0.05, 0.1)
_UNIT = "{:.0%} of letters"

DNA_CORRUPTIONS = (
    Corruption("any base", _RATES, _UNIT, partial(_change, partial(_any, len(DNA.standard)), DNA)),
    Corruption("mostly transitions", _RATES, _UNIT, partial(_change, _transitions, DNA)),
)
PROTEIN_CORRUPTIONS = (
    Corruption("any residue", _RATES, _UNIT, partial(_change, partial(_any, len(PROTEIN.standard)), PROTEIN)),
    Corruption("like residues (BLOSUM62)", _RATES, _UNIT, partial(_change, _conservative, PROTEIN)),
)
