"""Which examples make up which step: a pure function of (seed, step), so that nothing has to be saved to resume."""

from __future__ import annotations

__all__ = ["Order", "permute", "step_rng", "step_seed"]

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 4
_BUCKET_BATCHES = 32


def permute(positions: NDArray[np.int64], num: int, seed: int) -> NDArray[np.int64]:
    """Values of a pseudo-random permutation of ``range(num)`` at `positions`, in O(1) memory.

    A Feistel network over the next power of four, walked until it lands below `num` (Black & Rogaway 2002).
    """
    half = max(1, math.ceil(math.log2(max(num, 2)) / 2))
    mask = np.uint64((1 << half) - 1)
    keys = np.random.default_rng(seed).integers(1, 2**32, _ROUNDS, dtype=np.uint64) | np.uint64(1)
    values = positions.astype(np.uint64)
    todo = np.ones(len(values), bool)
    while todo.any():
        values[todo] = _feistel(values[todo], half, mask, keys)
        todo = values >= num
    return values.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half: int, mask: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    left, right = values >> np.uint64(half), values & mask
    for key in keys:
        mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)
        left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(29))) >> np.uint64(7)) & mask
    return (left << np.uint64(half)) | right


def step_seed(seed: int, step: int, part: int) -> int:
    """Seed of torch's global generator for one micro-batch."""
    return int(np.random.SeedSequence([seed, step, part]).generate_state(1)[0])


def step_rng(seed: int, step: int, part: int) -> np.random.Generator:
    """NumPy generator for the noise of one micro-batch."""
    return np.random.default_rng([seed, step, part, 1])


class Order:
    """The example indices of every step.

    Without `lengths`, a batch always has `batch_size` examples and epochs follow each other without a seam. With
    `lengths`, batches hold examples of similar length (shuffled in between) and an epoch has equal-sized batches.

    Args:
        num_examples: Examples in an epoch.
        batch_size: Examples in a step, over all processes and micro-batches.
        seed: Of the shuffle.
        lengths: Length of every example, for length buckets.
    """

    def __init__(self, num_examples: int, batch_size: int, *, seed: int, lengths: Sequence[int] | None = None) -> None:
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self.lengths = None if lengths is None else np.asarray(lengths)
        self._epoch = lru_cache(maxsize=2)(self._bucketed_epoch)

    @property
    def steps_per_epoch(self) -> float:
        """Steps that see every example once."""
        if self.lengths is None:
            return self.num_examples / self.batch_size
        return math.ceil(self.num_examples / self.batch_size)

    def __getitem__(self, step: int) -> NDArray[np.int64]:
        """Indices of the examples of a step."""
        if self.lengths is not None:
            epoch, within = divmod(step, int(self.steps_per_epoch))
            return self._epoch(epoch)[within]
        wanted = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = wanted // self.num_examples
        chosen = [self._permuted(wanted[epochs == e], int(e)) for e in np.unique(epochs)]
        return np.concatenate(chosen)

    def _permuted(self, wanted: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        return permute(wanted % self.num_examples, self.num_examples, self.seed * 1_000_003 + epoch)

    def _bucketed_epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        assert self.lengths is not None
        rng = np.random.default_rng([self.seed, epoch])
        shuffled = rng.permutation(self.num_examples)
        num_buckets = math.ceil(self.num_examples / (self.batch_size * _BUCKET_BATCHES))
        ranked = [b[np.argsort(self.lengths[b], kind="stable")] for b in np.array_split(shuffled, num_buckets)]
        batches = np.array_split(np.concatenate(ranked), int(self.steps_per_epoch))
        return [batches[i] for i in rng.permutation(len(batches))]
