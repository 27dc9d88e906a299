"""From records of a pool to what is unlike them: whole records and random pieces, learnt from, scaled by, held out."""

from __future__ import annotations

__all__ = ["MOST", "PoolNovelty"]

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.embedding import Embedder
from pretune.length_trend import LengthTrend
from pretune.modalities.base import Example
from pretune.novelty import GAUSSIAN, Novelty, Splits, Typical
from pretune.record_statistics import Measured, Statistics

MOST = 3000
"""Records of a pool that are measured; their inputs are in memory together."""

_LEARNT, _SHARES = 512, (0.5, 0.2)
"""Records that the order of places is learnt from; shares that are learnt from and scaled by (the rest: held out)."""

_PLAIN = ("vectors", "edges", "held", "ranges", "apart")

_SHORTEST = 4.0
"""Least length of a piece."""


@dataclass(frozen=True)
class PoolNovelty:
    """How to measure a record of an encoder, and what is unlike its pool."""

    statistics: Statistics
    novelty: Novelty

    @classmethod
    def fitted(cls, embedder: Embedder, examples: Sequence[Example], *, share: float, seed: int) -> PoolNovelty:
        """Learns from distinct records of a pool, in random order.

        Args:
            embedder: The encoder.
            examples: Processed records, `novelty.LEAST` or more.
            share: Of records like these that is not to be flagged.
            seed: Of the pieces.
        """
        rng = np.random.default_rng([seed, 2])
        ends = np.cumsum([round(s * len(examples)) for s in _SHARES]).tolist()
        parts = [examples[: ends[0]], examples[ends[0] : ends[1]], examples[ends[1] :]]
        statistics = Statistics.learnt(embedder, parts[0][:_LEARNT])
        measured = [_measured(embedder, statistics, part, rng) for part in parts]
        return cls(statistics, Novelty.fitted(Splits(*measured), share))

    def judge(self, embedder: Embedder, examples: Sequence[Example]) -> list[dict[str, Any]]:
        """See `Novelty.judge`."""
        return self.novelty.judge(self.statistics.measure(embedder, examples)) if examples else []

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All of it, for a file."""
        novelty = self.novelty
        found = _flat("statistics", self.statistics) | _flat("scores", novelty.scores)
        for name, typical in novelty.typical.items():
            found |= _flat(f"{name}.trend", typical.trend)
            found |= {f"{name}.centre": typical.centre, f"{name}.factor": typical.factor}
        found |= {n: getattr(novelty, n) for n in _PLAIN}
        return found | {"num_whole": np.array([novelty.num_whole])}

    @classmethod
    def of(cls, tensors: dict[str, NDArray[Any]], share: float) -> PoolNovelty:
        """What `tensors` gave. Raises KeyError where something is missing."""
        typical = {
            name: Typical(_trend(f"{name}.trend", tensors), tensors[f"{name}.centre"], tensors[f"{name}.factor"])
            for name in GAUSSIAN
        }
        statistics = Statistics(**{f.name: tensors[f"statistics.{f.name}"] for f in fields(Statistics)})
        rest: dict[str, Any] = {n: tensors[n] for n in _PLAIN} | {"num_whole": int(tensors["num_whole"][0])}
        return cls(statistics, Novelty(typical, scores=_trend("scores", tensors), share=share, **rest))


def _measured(
    embedder: Embedder, statistics: Statistics, examples: Sequence[Example], rng: np.random.Generator
) -> tuple[Measured, Measured | None]:
    """Records, and a piece of each whose length is even on a log scale; none where all are of one size."""
    modality = embedder.modality
    whole = statistics.measure(embedder, examples)
    if whole.lengths.max() <= _SHORTEST:
        return whole, None
    lengths = np.exp(rng.uniform(np.log(_SHORTEST), np.log(np.maximum(whole.lengths, _SHORTEST + 1))))
    pieces = [modality.piece(e, round(n), rng) for e, n in zip(examples, lengths.tolist(), strict=True)]
    return whole, statistics.measure(embedder, pieces)


def _flat(name: str, value: Any) -> dict[str, NDArray[Any]]:
    return {f"{name}.{f.name}": getattr(value, f.name) for f in fields(value)}


def _trend(name: str, tensors: dict[str, NDArray[Any]]) -> LengthTrend:
    return LengthTrend(**{f.name: tensors[f"{name}.{f.name}"] for f in fields(LengthTrend)})
