"""A sample of a stream of any length, every item equally likely, in memory for the sample alone."""

from __future__ import annotations

__all__ = ["sampled"]

import itertools
import math
from collections.abc import Iterable
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def sampled(items: Iterable[Item], number: int, *, seed: int) -> list[Item]:
    """At most `number` of the items (Li 1994, "Algorithm L": between two draws the stream is only passed over).

    Args:
        items: A stream.
        number: How many, at least 1.
        seed: The same seed and stream give the same items.
    """
    rng, stream = np.random.default_rng(seed), iter(items)
    kept = list(itertools.islice(stream, number))
    weight = 1.0
    while True:
        weight *= math.exp(math.log(1 - rng.random()) / number)
        skip = math.floor(math.log(1 - rng.random()) / math.log1p(-weight)) if weight < 1 else 0
        found = next(itertools.islice(stream, skip, None), _END)
        if found is _END:
            return kept
        kept[int(rng.integers(number))] = found  # type: ignore[assignment]


_END = object()
