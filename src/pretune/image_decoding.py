"""Many pictures to equal squares, in threads: Pillow leaves the interpreter free while it decodes and resizes."""

from __future__ import annotations

__all__ = ["Squares", "ahead"]

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pretune.image_reading import Picture, fitted, picture, pixels

A = TypeVar("A")
B = TypeVar("B")

_AHEAD = 64
"""Pictures that are decoded ahead of the one in use, for each thread."""


@dataclass(frozen=True)
class Squares:
    """How pictures become arrays (size, size, channels) of bytes.

    Attributes:
        size: Side in pixels.
        channels: 1 or 3.
        edge: See `pretune.image_reading.fitted`.
        resample: PIL's number of the filter.
    """

    size: int
    channels: int
    edge: int | None = None
    resample: int = int(Image.Resampling.BILINEAR)

    def one(self, value: Picture) -> NDArray[np.uint8]:
        """One picture, shape (size, size, channels).

        Raises:
            DataError: It is missing or damaged; names its file.
        """
        image = picture(value).convert("L" if self.channels == 1 else "RGB")
        return pixels(fitted(image, self.size, edge=self.edge, resample=self.resample), self.channels)

    def many(self, values: Iterable[Picture]) -> Iterator[NDArray[np.uint8]]:
        """`one` for each, in order, some ahead of use; holds a few hundred pictures however many there are."""
        yield from ahead(self.one, values)


def ahead(work: Callable[[A], B], values: Iterable[A]) -> Iterator[B]:
    """`work` of each value, in order, done in threads some ahead of use."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers == 1:
        yield from map(work, values)
        return
    source = iter(values)
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(work, v) for v in itertools.islice(source, _AHEAD * workers))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, v) for v in itertools.islice(source, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
