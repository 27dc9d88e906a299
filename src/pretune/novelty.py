"""Is a record unlike all that a pool holds? How untypical its statistics are, as a p-value against held-out records."""

from __future__ import annotations

__all__ = ["GAUSSIAN", "LEAST", "Novelty", "Splits", "Typical"]

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from pretune.embedding import unit
from pretune.length_trend import LengthTrend
from pretune.nearest import Nearest
from pretune.record_statistics import Measured

Floats = NDArray[np.float64]

LEAST = 200
"""Records of a pool below which nothing is said."""

_BIN = 60
"""Records of a range of lengths that are enough for p-values of its own."""

_NEIGHBOUR = 10
"""The neighbour whose distance counts: Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors"."""

GAUSSIAN = ("order", "first", "last")
"""Parts of a record that a Gaussian is fitted to."""


class Splits(NamedTuple):
    """Records of a pool, each whole and as a piece: to learn from, to scale scores by, and held out for p-values."""

    fit: tuple[Measured, Measured | None]
    scale: tuple[Measured, Measured | None]
    held: tuple[Measured, Measured | None]


@dataclass(frozen=True)
class Typical:
    """A Gaussian of the columns of one part, given length.

    Attributes:
        trend: Of the columns.
        centre: Of the standardised columns, (columns,).
        factor: A square root of the inverse of their covariance (Ledoit & Wolf 2004), (columns, columns).
    """

    trend: LengthTrend
    centre: Floats
    factor: Floats

    @classmethod
    def fitted(cls, values: Floats, lengths: Floats) -> Typical:
        """Learns what is typical from records, (records, columns)."""
        trend = LengthTrend.fitted(values, lengths)
        rows = trend.standardised(values, lengths)
        sizes, vectors = np.linalg.eigh(ledoit_wolf(rows)[0])
        return cls(trend, rows.mean(0), vectors / np.sqrt(np.maximum(sizes, 1e-9)))

    def far(self, values: Floats, lengths: Floats) -> Floats:
        """Log squared Mahalanobis distance, (records,)."""
        rows = self.trend.standardised(values, lengths)
        found: Floats = np.log(np.square((rows - self.centre) @ self.factor).sum(1) + 1e-12)
        return found


@dataclass(frozen=True)
class Novelty:
    """What records of a pool say about others.

    Attributes:
        typical: Of the parts ``order``, ``first`` and ``last``.
        vectors: Of records, and of pieces of them, to be near to; unit length.
        scores: Trend in length of the four distances (three parts, and to the tenth neighbour).
        edges: Least length of each range that has p-values of its own, rising.
        held: Scores of held-out records, in rising order.
        ranges: The range of each of them.
        num_whole: How many of `vectors`, the first ones, are of whole records.
        apart: Cosine distances of held-out whole records to the tenth of those, in rising order.
        share: Share of records like the pool's that is not to be flagged.
    """

    typical: dict[str, Typical]
    vectors: NDArray[np.float32]
    scores: LengthTrend
    edges: Floats
    held: Floats
    ranges: NDArray[np.int64]
    num_whole: int
    apart: Floats
    share: float

    @classmethod
    def fitted(cls, splits: Splits, share: float) -> Novelty:
        """Learns from a pool; records that are held out have no part in anything but the p-values.

        Where a range of lengths has enough whole records, they alone are held out for it, else pieces too: the p-value
        of a record of the pool is exact, that of a shorter text compares it with as short pieces.
        """
        fit, scale = (_both(pair) for pair in (splits.fit, splits.scale))
        typical = {name: Typical.fitted(fit.parts[name], fit.lengths) for name in GAUSSIAN}
        vectors, whole = unit(fit.parts["vector"].astype(np.float32)), len(splits.fit[0].lengths)
        none = np.zeros(0)
        bare = cls(
            typical, vectors, LengthTrend(none, none, none), none, none, none.astype(np.int64), whole, none, share
        )
        edges, enough = _edges(splits.scale[0].lengths, scale.lengths)
        kept = _calibration(splits.held, edges, enough)
        scaled = replace(bare, scores=LengthTrend.fitted(bare._distances(scale), scale.lengths))
        found, ranges = scaled.score(kept), _range(edges, kept.lengths)
        order = np.argsort(found, kind="stable")
        apart = np.sort(bare.distance(splits.held[0]))
        return replace(scaled, edges=edges, held=found[order], ranges=ranges[order], apart=apart)

    @cached_property
    def _near(self) -> Nearest:
        return Nearest(self.vectors)

    @cached_property
    def _near_whole(self) -> Nearest:
        return Nearest(self.vectors[: self.num_whole])

    def distance(self, measured: Measured) -> Floats:
        """Cosine distance to the tenth nearest whole record, (records,); it grows as records get short."""
        similar, _ = self._near_whole.find(unit(measured.parts["vector"].astype(np.float32)), _NEIGHBOUR)
        found: Floats = 1 - similar[:, -1].astype(np.float64)
        return found

    def _distances(self, measured: Measured) -> Floats:
        """Log distances, (records, 4)."""
        far = [t.far(measured.parts[name], measured.lengths) for name, t in self.typical.items()]
        similar, _ = self._near.find(unit(measured.parts["vector"].astype(np.float32)), _NEIGHBOUR)
        return np.stack([*far, np.log(np.maximum(1 - similar[:, -1], 1e-9))], 1)

    def score(self, measured: Measured) -> Floats:
        """The largest of the four distances, each in standard deviations above the mean at that length."""
        found: Floats = self.scores.standardised(self._distances(measured), measured.lengths).max(1)
        return found

    def p_values(self, scores: Floats, lengths: Floats) -> Floats:
        """How many held-out records of such a length, and the record itself, score at least as high, as a share.

        For a record that is drawn as the pool was, P(p <= a) <= a for every a, whatever the encoder (conformal
        anomaly detection; Bates et al. 2023, "Testing for outliers with conformal p-values").
        """
        ranges, found = _range(self.edges, lengths), np.ones(len(scores))
        for number in np.unique(ranges):
            rows = ranges == number
            found[rows] = _share_above(self.held[self.ranges == number], scores[rows])
        return found

    def judge(self, measured: Measured) -> list[dict[str, Any]]:
        """For each record two tests, each with its p-value, and whether it is ``flagged``: ``p`` below 1 - share.

        ``p`` is twice the smaller of ``p_of_length`` (of ``score``) and ``p_distance`` (of ``distance``): Bonferroni's
        correction keeps the share of the pool's own records that are flagged.
        """
        scores, distances = self.score(measured), self.distance(measured)
        typical, near = self.p_values(scores, measured.lengths), _share_above(self.apart, distances)
        both = np.minimum(1.0, 2 * np.minimum(typical, near))
        numbers = {"score": scores, "distance": distances, "p_of_length": typical, "p_distance": near, "p": both}
        rounded = {name: np.round(values, 4).tolist() for name, values in numbers.items()}
        flagged = (both < 1 - self.share - 1e-12).tolist()
        return [{**{n: v[i] for n, v in rounded.items()}, "flagged": said} for i, said in enumerate(flagged)]


def _share_above(held: Floats, scores: Floats) -> Floats:
    found: Floats = (1 + len(held) - np.searchsorted(held, scores, side="left")) / (1 + len(held))
    return found


def _both(pair: tuple[Measured, Measured | None]) -> Measured:
    return pair[0] if pair[1] is None else pair[0] + pair[1]


def _range(edges: Floats, lengths: Floats) -> NDArray[np.int64]:
    """The range of lengths that each belongs to; what is shorter than all belongs to the first."""
    found: NDArray[np.int64] = np.maximum(np.searchsorted(edges, lengths, side="right") - 1, 0)
    return found


def _edges(whole: Floats, every: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Ranges of half an octave, joined until each has enough records; and which have enough whole ones."""
    steps = np.exp2(np.arange(np.floor(2 * np.log2(every.min())), 2 * np.log2(every.max()) + 1) / 2)
    edges: list[float] = []
    upper = np.inf
    for lower in steps[::-1]:
        if ((every >= lower) & (every < upper)).sum() >= _BIN:
            edges.append(float(lower))
            upper = lower
    found = np.array(edges[::-1] or [0.0])
    return found, np.bincount(_range(found, whole), minlength=len(found)) >= _BIN


def _calibration(held: tuple[Measured, Measured | None], edges: Floats, whole: NDArray[np.bool_]) -> Measured:
    """Whole records, and pieces of the lengths of which there are not enough whole ones."""
    records, pieces = held
    if pieces is None:
        return records
    kept = ~whole[_range(edges, pieces.lengths)]
    return records + Measured({n: p[kept] for n, p in pieces.parts.items()}, pieces.lengths[kept])
