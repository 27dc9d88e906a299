"""Work on many records, in threads, ahead of use: decoders of pictures and sound leave the interpreter free."""

from __future__ import annotations

__all__ = ["ahead"]

import itertools
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

_AHEAD = 64
"""Records that are worked on ahead of the one in use, for each thread."""

_TRIED = 3
"""Records that are worked on first, to see how long one takes."""

_LONG = 5e-4
"""Seconds from which on threads pay: two that pass the interpreter to and fro read tiny pictures slower than one."""


def ahead(work: Callable[[A], B], values: Iterable[A]) -> Iterator[B]:
    """`work` of each value, in order, done in threads some ahead of use where it takes long enough."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    source, seconds = iter(values), list[float]()
    for value in itertools.islice(source, _TRIED):
        began = time.perf_counter()
        found = work(value)
        seconds.append(time.perf_counter() - began)
        yield found
    if workers == 1 or statistics.median(seconds or [0.0]) < _LONG:
        yield from map(work, source)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(work, v) for v in itertools.islice(source, _AHEAD * workers))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, v) for v in itertools.islice(source, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
