"""What a user names as data (file, folder, Hub name, Python object) to tables of rows."""

from __future__ import annotations

__all__ = ["STDIN", "Hub", "Layout", "Local", "Source", "exists", "load_hub", "locate", "tables"]

import os
import re
import socket
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import datasets
import numpy as np

from pretune.errors import DataError, did_you_mean, similar
from pretune.formats import MEDIA, TABLES, below, endings, format_of
from pretune.media_sources import media_tables
from pretune.memory_rows import dataset_table, frame_rows, list_rows
from pretune.readers import RowStream, Table, file_table, lines
from pretune.sequence_sources import class_folders, sequence_tables, stray_file
from pretune.split_column import of_split
from pretune.stdin_source import stdin_table

Source: TypeAlias = Any
"""A path, ``folder:split``, ``hub-name[:config]:split``, ``-``, a DataFrame, a list, arrays or a ``Dataset``."""

STDIN = "-"

_SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
    "t10k": "test",
}
_SHARD = re.compile(r"[-_.](\d|images|labels).*")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+){0,2}")


@dataclass(frozen=True)
class Local:
    """Files on this machine.

    Attributes:
        root: The file or folder that was named.
        files: Those that will be read, sorted.
        ignored: Files below `root` of other formats; of a layout, those without a partner.
        split: Of the arrays of an .npz file, or the rows of a table with a column ``split``.
    """

    root: Path
    files: tuple[Path, ...]
    ignored: tuple[Path, ...] = ()
    split: str | None = None

    @property
    def classes(self) -> bool:
        """Whether it is a folder with one sub-folder of ``.txt`` files for each label.

        Raises:
            DataError: It would be, but for a file that has no label.
        """
        if not all(format_of(f) == "text" for f in self.files):
            return False
        if (stray := stray_file(self.root, self.files)) is not None:
            raise DataError(f'"{stray}" lies beside the folders of the classes, and has none; move it away.')
        return class_folders(self.root, self.files)


@dataclass(frozen=True)
class Layout(Local):
    """Files in a layout that a task knows (`Task.source`), with the tables that it made of them."""

    made: tuple[Table, ...] = ()

    @property
    def unpaired(self) -> str:
        """What of the files that are there has no partner, in words."""
        which = "file has" if len(self.ignored) == 1 else "files have"
        return f'{len(self.ignored)} {which} no partner below "{self.root}", such as "{self.ignored[0].name}"'


@dataclass(frozen=True)
class Hub:
    """A data set of the Hugging Face Hub."""

    name: str
    config: str | None = None
    split: str | None = None


def locate(source: str | Path, medium: str | None = None) -> Local | Hub | datasets.Dataset:
    """Finds what a path or name stands for.

    Args:
        source: A path or name.
        medium: What its files should hold, of `MEDIA`; None takes the files of every medium.

    ``folder:split`` takes one split of a folder that has several (``train.csv`` and ``test.csv``, or
    folders of these names), ``file:split`` the rows whose column ``split`` says so; ``folder:all`` takes all files.
    Hub names are ``name``, ``name:split`` and ``name:config:split``.

    Raises:
        DataError: Nothing of that name, nothing in it that can be read, or several splits and none chosen.
    """
    text = str(source)
    path, split = _expanded(text), None
    if not text.strip():
        raise DataError("The name of the data is empty; give a file, a folder or a Hub name.")
    if not exists(path) and ":" in text:
        before, _, after = text.rpartition(":")
        if exists(_expanded(before)):
            path, split = _expanded(before), after
    if exists(path):
        return (_saved(path, split) or _folder(path, split, medium)) if path.is_dir() else _file(path, split, medium)
    if isinstance(source, Path) or _is_path(text):
        shown = text if len(text) <= 100 else f"{text[:97]}..."
        raise DataError(f'There is no file or folder "{shown}"; check the path.{similar(path)}')
    name, *rest = text.split(":")
    return Hub(name, rest[0] if len(rest) == 2 else None, rest[-1] if rest else None)


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # "~name" of nobody
        return Path(text)


def exists(path: Path) -> bool:
    """Whether there is such a file; a text that is too long or odd for a file name is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _is_path(text: str) -> bool:
    looks = text.startswith((".", "~", os.sep)) or not _HUB_NAME.fullmatch(text)
    return looks or format_of(Path(text)) is not None


def _file(path: Path, split: str | None, medium: str | None) -> Local:
    if split and path.suffix.lower() != ".npz" and format_of(path) not in TABLES:
        raise DataError(f'"{path}" is one file and has no split "{split}"; leave ":{split}" out.')
    if not _fits(path, medium):
        raise DataError(f'Cannot read "{path}": expected a file that ends in {endings(medium)}; convert or rename it.')
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f'"{path}" is empty; give a file with at least one row.')
    return Local(path, (path,), split=_SPLITS.get(split, split) if split else None)


def _fits(path: Path, medium: str | None) -> bool:
    found = format_of(path)
    return found is not None and (medium is None or found in MEDIA[medium])


def _folder(path: Path, split: str | None, medium: str | None) -> Local:
    every = [f for f in sorted(path.rglob("*")) if not _hidden(below(f, path)) and f.is_file()]
    files = [f for f in every if _fits(f, medium)]
    ignored = tuple(f for f in every if not _fits(f, medium))
    if not files:
        present = ", ".join(sorted({f.suffix or f.name for f in ignored})) or "no file at all"
        raise DataError(f'"{path}" holds {present}; expected files that end in {endings(medium)}.')
    if split == "all":
        return Local(path, tuple(files), ignored)
    root = _single_folder(path, files)
    by_split: dict[str, list[Path]] = {}
    for f in files:
        by_split.setdefault(_split_of(below(f, root)), []).append(f)
    if split is None:
        _require_one_split(path, [s for s in by_split if s in _SPLITS.values()])
        return Local(root, tuple(files), ignored)
    return _one_split(path, root, split, by_split, ignored)


def _one_split(path: Path, root: Path, split: str, by_split: dict[str, list[Path]], ignored: tuple[Path, ...]) -> Local:
    chosen = by_split.get(_SPLITS.get(split, split))
    if not chosen:
        known = ", ".join(sorted(by_split))
        raise DataError(f'"{path}" has no split "{split}"; it has: {known}.{did_you_mean(split, by_split)}')
    top = root / below(chosen[0], root)[0]
    return Local(top if top.is_dir() else root, tuple(chosen), ignored)


def _require_one_split(path: Path | str, splits: Collection[str]) -> None:
    if len(splits) > 1:
        listed, example = ", ".join(sorted(splits)), "train" if "train" in splits else min(splits)
        raise DataError(f'"{path}" holds several splits ({listed}); name one, as "{path}:{example}".')


def _hidden(parts: Sequence[str]) -> bool:
    return any(part.startswith(".") for part in parts)


def _single_folder(path: Path, files: Sequence[Path]) -> Path:
    """Goes down while everything is in one sub-folder that is no split (the Hub's ``data/``)."""
    while True:
        tops = {below(f, path)[0] for f in files}
        inside = path / tops.pop()
        if tops or not inside.is_dir() or inside.name.lower() in _SPLITS:
            return path
        if any(f.parent == inside and format_of(f) in ("image", "audio") for f in files):
            return path  # the only class
        path = inside


def _split_of(parts: Sequence[str]) -> str:
    """The split that a file or top folder is named after (``train-0-of-2.parquet``: train), or its name."""
    top = parts[0]
    stem = top if len(parts) > 1 else top.split(".")[0]
    word = _SHARD.sub("", stem).lower()
    return _SPLITS.get(word, stem)


def _saved(path: Path, split: str | None) -> datasets.Dataset | None:
    """A folder written by `Dataset.save_to_disk`; None when it is another sort of folder."""
    if not any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return None
    try:
        return _chosen(str(path), datasets.load_from_disk(str(path)), split)
    except (OSError, ValueError, KeyError) as bad:
        if isinstance(bad, DataError):
            raise
        raise DataError(f'"{path}" is a damaged `datasets` folder ({_first_line(bad)}); save it again.') from bad


def _chosen(name: str, loaded: Any, split: str | None) -> datasets.Dataset:
    if isinstance(loaded, datasets.Dataset):
        if split:
            raise DataError(f'"{name}" is one data set without splits; leave ":{split}" out.')
        return loaded
    if split is None:
        _require_one_split(name, list(loaded))
        return next(iter(loaded.values()))
    same = [s for s in loaded if s == split or _SPLITS.get(s, s) == _SPLITS.get(split, split)]
    if not same:
        known = ", ".join(sorted(loaded))
        raise DataError(f'"{name}" has no split "{split}"; it has: {known}.{did_you_mean(split, loaded)}')
    return loaded[same[0]]


def load_hub(hub: Hub) -> datasets.Dataset:
    """Downloads (once; `datasets` caches it) and memory-maps a data set of the Hub.

    Raises:
        DataError: It does not exist, cannot be reached, or has several splits and none was chosen.
    """
    try:
        _require_reachable(hub.name)
        loaded = datasets.load_dataset(hub.name, hub.config)
    except Exception as bad:  # the Hub client raises errors of many libraries
        raise DataError(
            f'"{hub.name}" is not a file or folder here, nor a Hub data set that can be loaded '
            f"({_first_line(bad)}); give a path, NAME:SPLIT or NAME:CONFIG:SPLIT.{similar(Path(hub.name))}"
        ) from bad
    return _chosen(":".join(filter(None, (hub.name, hub.config))), loaded, hub.split)


def _require_reachable(name: str) -> None:
    """Fails at once without a network: the client would try a mistyped path for half a minute."""
    cached = Path(datasets.config.HF_DATASETS_CACHE) / name.replace("/", "___")
    if not cached.exists() and not urllib.request.getproxies():
        socket.getaddrinfo(urlsplit(datasets.config.HF_ENDPOINT).hostname, 443)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def tables(
    source: Source,
    *,
    labelled: bool = False,
    tabled: bool = False,
    conll: bool = False,
    medium: str | None = "text",
) -> Iterator[Table]:
    """The tables of any source, in order.

    Args:
        source: See `Source`.
        medium: What its files hold, of `MEDIA`.
        labelled: Labels are wanted: in sub-folders of ``.txt``, a file is a row and its folder the label.
        tabled: Something is wanted that only a table has: tables beside images or recordings are read.
        conll: Token tags are wanted: ``.txt`` files are CoNLL columns.

    Raises:
        DataError: The source does not exist or is of no sort that can be read.
    """
    if isinstance(source, str) and source == STDIN:
        yield stdin_table(medium)
    elif isinstance(source, str | Path):
        yield from _located_tables(locate(source, medium), labelled, tabled, conll, medium)
    elif isinstance(source, Layout):
        yield from source.made
    elif isinstance(source, datasets.Dataset):
        yield dataset_table(source, "the data set")
    elif isinstance(source, list | tuple):
        yield Table("the list", None, lambda _: list_rows(source, medium))
    elif isinstance(source, np.ndarray):
        if medium == "image" and source.ndim == 3 and source.shape[2] in (3, 4):
            raise DataError(
                f"An array of shape {source.shape} may be one picture or {len(source)} grey ones; give [array] for "
                "one, and shape (pictures, height, width, 1) for several."
            )
        if medium == "audio" and source.ndim == 1:
            raise DataError('One recording as an array needs its rate: give [{"array": it, "sampling_rate": 16000}].')
        role = "audio" if medium == "audio" else "image"
        yield Table("the array", [role], lambda _: ((n, {role: x}) for n, x in enumerate(source, 1)))
    elif isinstance(source, dict) and source and all(isinstance(v, np.ndarray | list) for v in source.values()):
        lengths = {k: len(v) for k, v in source.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"Columns need one length, found {lengths}; leave none out and cut none short.")
        yield Table("the arrays", list(source), lambda needed: frame_rows(_Arrays(source), needed))
    elif hasattr(source, "columns") and hasattr(source, "itertuples"):
        columns = [str(c) for c in source.columns]
        yield Table("the DataFrame", columns, lambda needed: frame_rows(source, needed))
    else:
        raise DataError(
            f"Cannot read data from {type(source).__name__}; expected a path, a Hub name, a DataFrame, a list of str, "
            f"dict, images or arrays (one is [it]), or a datasets.Dataset{_split_hint(source)}."
        )


def _split_hint(source: Any) -> str:
    return f' (one split of it, as data["{next(iter(source))}"])' if isinstance(source, dict) and source else ""


class _Arrays(dict[str, Any]):
    """Columns of equal length, by name."""

    @property
    def columns(self) -> Iterable[str]:
        return self.keys()


def _located_tables(
    found: Local | Hub | datasets.Dataset, labelled: bool, tabled: bool, conll: bool, medium: str | None
) -> Iterator[Table]:
    if isinstance(found, Hub):
        yield dataset_table(load_hub(found), found.name)
    elif isinstance(found, datasets.Dataset):
        yield dataset_table(found, "the saved data set")
    elif medium in ("image", "audio"):
        read = partial(media_tables, found.root, found.files, medium=medium, split=found.split, ignored=found.ignored)
        yield from _of_split(read(labelled=labelled, tabled=tabled), found)
    elif medium == "sequence":
        yield from _of_split(sequence_tables(found.root, found.files, labelled=labelled), found)
    elif labelled and found.classes:
        yield from (_class_table(file, found.root) for file in found.files)
    else:
        yield from _of_split((file_table(file, conll=conll) for file in found.files), found)


def _of_split(every: Iterable[Table], found: Local) -> Iterator[Table]:
    """The tables, or of each the rows of the split that was named."""
    for table in every:
        rows = found.split and format_of(Path(table.file)) in TABLES
        yield of_split(table, found.split or "", lambda name: _SPLITS.get(name.lower(), name)) if rows else table


def _class_table(path: Path, root: Path) -> Table:
    label = below(path, root)[0]
    return Table(str(path), ["text", "label"], lambda _: _class_rows(path, label), "line")


def _class_rows(path: Path, label: str) -> RowStream:
    """The whole file as one row."""
    pieces = list(lines(path))
    error = next((p.error for p in pieces if p.error), None)
    yield 1, error or {"text": "".join(p.text for p in pieces).strip(), "label": label}
