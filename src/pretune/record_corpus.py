"""What corpora of whole records (images, recordings) share: building them once, hashes that choose what is held out."""

from __future__ import annotations

__all__ = ["built", "rows_of", "write_contents"]

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pretune.corpus import SPLITS, corpus_key
from pretune.corpus_build import MAX_VALID_RATE, building
from pretune.errors import ConfigError, DataError

_VALID_RATE, _MIN_VALID = 0.01, 50


def built(
    kind: str, settings: Sequence[Any], build: Callable[[Path], dict[str, Any]], *, cache: Path, split: str
) -> Path:
    """The folder of a corpus; the first call with these settings has it built, for all splits at once.

    Args:
        kind: What it is of; its folder is named so.
        settings: All that its content depends on.
        build: Fills a folder; returns what ``meta.json`` says besides the key.
        cache: Folder for all corpora; made when absent.
        split: The one that will be opened.

    Raises:
        ConfigError: An unknown split.
    """
    if split not in SPLITS:
        raise ConfigError(f'There is no corpus split "{split}"; there are: {", ".join(SPLITS)}.')
    key = corpus_key(kind, *settings)
    folder = cache / f"{kind}-{key}"
    if not (folder / "meta.json").is_file():
        with building(folder) as temporary:
            meta = {"key": key, **build(temporary)}
            (temporary / "meta.json").write_text(json.dumps(meta))
    return folder


def write_contents(contents: Iterable[bytes], file: Path, *, noun: str, sources: str) -> int:
    """Writes records one after the other and, beside them, their hashes; returns how many there are.

    Args:
        contents: One a record.
        file: To write; ``hashes.npy`` lies beside it.
        noun: What the records are, in the plural.
        sources: What may hold some.

    Raises:
        DataError: There are none.
    """
    hashes: list[int] = []
    with file.open("wb") as stream, _counting(noun) as progress:
        bar = progress.add_task("decoding", done=0)
        for content in contents:
            hashes.append(int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big"))
            stream.write(content)
            progress.update(bar, done=len(hashes))
    if not hashes:
        raise DataError(f"There are no {noun} in the data; give a {sources} that has some.")
    np.save(file.with_name("hashes.npy"), np.array(hashes, dtype=np.uint64))
    return len(hashes)


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


def _counting(noun: str) -> Progress:
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
