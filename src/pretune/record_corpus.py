"""What corpora of whole records (images, recordings) share: hashes that choose what is held out, a counting bar."""

from __future__ import annotations

__all__ = ["content_hash", "counting", "file_states", "rows_of"]

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pretune.corpus_build import MAX_VALID_RATE
from pretune.errors import DataError

_VALID_RATE, _MIN_VALID = 0.01, 50


def content_hash(content: bytes) -> int:
    """64 bits of a record's content."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def file_states(values: Iterable[Any]) -> str:
    """A hash of names, sizes and times of the files that rows point to: their content is not in a table's own hash."""
    digest = hashlib.blake2b(digest_size=12)
    for value in values:
        if isinstance(value, str):
            state = Path(value).stat() if Path(value).exists() else None
            digest.update(f"{value} {state and (state.st_size, state.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


def rows_of(hashes: NDArray[np.uint64], split: str, noun: str) -> NDArray[np.int64]:
    """Numbers of the records of a split, in the order of the data.

    Those whose hashes are lowest are held out (1 % of them, or 50 and at most 10 %), so that equal ones are never on
    both sides.

    Args:
        hashes: One a record.
        split: ``train``, ``valid`` or ``all``.
        noun: What the records are, in the plural.

    Raises:
        DataError: There are too few different ones to hold one out.
    """
    if split == "all":
        return np.arange(len(hashes))
    wanted = min(max(_MIN_VALID, round(_VALID_RATE * len(hashes))), int(MAX_VALID_RATE * len(hashes)))
    border = np.sort(hashes)[max(wanted, 1) - 1]
    held = hashes <= border
    if held.all():
        raise DataError(
            f"The data is {len(hashes)} {noun.rstrip('s')}(s) of one content, so none can be held out; give more, or "
            f"held-out {noun} as --valid."
        )
    return np.flatnonzero(held if split == "valid" else ~held)


def counting(noun: str) -> Progress:
    """A bar for work of unknown length; update its task with ``done``."""
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[done]:,} " + noun),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
