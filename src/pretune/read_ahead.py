"""Work on many records, in threads, ahead of use: decoders of pictures and sound leave the interpreter free."""

from __future__ import annotations

__all__ = ["ahead"]

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

_AHEAD = 64
"""Records that are worked on ahead of the one in use, for each thread."""


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
