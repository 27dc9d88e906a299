"""What explained sequences have in common: the stretches of highest score, aligned, as one sequence logo a target."""

from __future__ import annotations

__all__ = ["Motif", "draw_motif", "motifs_of"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pretune.alphabets import ALPHABETS
from pretune.letter_shapes import add_letters
from pretune.plots import blank, image_of
from pretune.sequence_explanation import SequenceExplanation

_FEWEST, _WIDEST, _NARROWEST = 10, 10, 6
_FAINT = 0.15
"""Bits below which a column at an end is cut, down to `_NARROWEST` columns."""

_ROUNDS, _SHIFT = 20, 4


@dataclass(frozen=True)
class Motif:
    """Aligned stretches of records, one of each.

    Attributes:
        target: Their label.
        sites: Stretches of the same length.
        starts: Where they begin in the records, counted from 1.
        num_records: Explained records of this label.
        alphabet: ``DNA`` or ``protein``.
    """

    target: str
    sites: list[str]
    starts: list[int]
    num_records: int
    alphabet: str

    @property
    def standard(self) -> str:
        """Letters of the rows of `counts`."""
        return ALPHABETS[self.alphabet].standard

    @property
    def counts(self) -> NDArray[np.float64]:
        """Sites with each letter, (letters, columns)."""
        return _counts(self.sites, self.standard)

    @property
    def heights(self) -> NDArray[np.float64]:
        """Bits of each letter, (letters, columns): its share of the column's information.

        Information is log2(letters) minus entropy minus the bias of few sites (Schneider & Stephens 1990).
        """
        return _heights(self.counts)

    @property
    def caption(self) -> str:
        """What it is, how many sites it rests on, and where they are."""
        low, high = min(self.starts), max(self.starts)
        where = f"from position {low}" if low == high else f"from positions {low} to {high}"
        return (
            f"{self.target}: {len(self.sites)} sites of {len(self.sites[0])} letters in {self.num_records} records, "
            f"{where}; the stretch of highest score in each, moved by up to {_SHIFT} letters to align, "
            "which by itself raises the bits a little"
        )


def motifs_of(explanations: Sequence[SequenceExplanation]) -> list[Motif]:
    """A motif of every target that at least ten whole records are explained for."""
    whole = [e for e in explanations if e.span is None and e.answer is not None and e.signed]
    groups = {target: [e for e in whole if e.target == target] for target in dict.fromkeys(e.target for e in whole)}
    found = [_motif(target, some) for target, some in groups.items() if len(some) >= _FEWEST]
    return [m for m in found if m is not None]


def _motif(target: str, some: Sequence[SequenceExplanation]) -> Motif | None:
    standard = ALPHABETS[some[0].alphabet].standard
    texts, starts = [], []
    for e in some:
        text, score = "".join(c for c, _ in e.letters), np.array([s for _, s in e.letters])
        if (start := _highest(text, score, standard)) is not None:
            texts.append(text)
            starts.append(start)
    if len(texts) < _FEWEST:
        return None
    starts = _aligned(texts, starts, standard)
    sites = [t[s : s + _WIDEST] for t, s in zip(texts, starts, strict=True)]
    low, high = _core(_heights(_counts(sites, standard)).sum(0))
    return Motif(target, [s[low:high] for s in sites], [s + low + 1 for s in starts], len(some), some[0].alphabet)


def _highest(text: str, scores: NDArray[np.float64], standard: str) -> int | None:
    """Where the ten standard letters of highest total score begin; None where no such stretch speaks for the target."""
    if len(text) < _WIDEST:
        return None
    sums = np.convolve(scores, np.ones(_WIDEST), "valid")
    plain = np.array([set(text[i : i + _WIDEST]) <= set(standard) for i in range(len(sums))])
    best = int(np.where(plain, sums, -np.inf).argmax())
    return best if plain[best] and sums[best] > 0 else None


def _aligned(texts: Sequence[str], starts: Sequence[int], standard: str) -> list[int]:
    """Starts moved by up to four letters to where each site fits the others best, until none moves."""
    home, now = list(starts), list(starts)
    for _ in range(_ROUNDS):
        before = list(now)
        for i, text in enumerate(texts):
            others = [t[s : s + _WIDEST] for j, (t, s) in enumerate(zip(texts, now, strict=True)) if j != i]
            odds = np.log((_counts(others, standard) + 0.5) / (len(others) + 0.5 * len(standard)))
            near = range(max(0, home[i] - _SHIFT), min(len(text) - _WIDEST, home[i] + _SHIFT) + 1)
            fits = [s for s in near if set(text[s : s + _WIDEST]) <= set(standard)]
            now[i] = max(fits, key=lambda s: float((odds * _counts([text[s : s + _WIDEST]], standard)).sum()))
        if now == before:
            break
    return now


def _counts(sites: Sequence[str], standard: str) -> NDArray[np.float64]:
    table = np.array([[standard.index(c) for c in site] for site in sites])
    return np.stack([(table == i).sum(0) for i in range(len(standard))]).astype(np.float64)


def _heights(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = counts / counts.sum(0)
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(0)
    bias = (len(counts) - 1) / (2 * np.log(2) * counts.sum(0))
    information = np.maximum(0, np.log2(len(counts)) - entropy - bias)
    heights: NDArray[np.float64] = shares * information
    return heights


def _core(bits: NDArray[np.float64]) -> tuple[int, int]:
    """First and last + 1 column when faint ends are cut."""
    low, high = 0, len(bits)
    while high - low > _NARROWEST and min(bits[low], bits[high - 1]) < _FAINT:
        low, high = (low + 1, high) if bits[low] <= bits[high - 1] else (low, high - 1)
    return low, high


def draw_motif(motif: Motif) -> Image.Image:
    """The information-content logo (Schneider & Stephens 1990), 750 x 330 pixels."""
    figure = blank(figsize=(5.0, 2.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    heights, letters = motif.heights, []
    for column in range(heights.shape[1]):
        order = np.argsort(heights[:, column])
        tops = np.cumsum(heights[order, column])
        letters += [
            (motif.standard[i], column + 1.0, float(top - heights[i, column]), float(heights[i, column]))
            for i, top in zip(order, tops, strict=True)
            if heights[i, column] > 0
        ]
    add_letters(axes, letters, motif.alphabet)
    axes.set(xlim=(0.4, heights.shape[1] + 0.6), ylim=(0, np.log2(len(heights))), ylabel="bits")
    axes.set_xticks(range(1, heights.shape[1] + 1))
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return image_of(figure)
