"""Folders of pictures or recordings and files of arrays to rows: the input and, where it is wanted, ``label``."""

from __future__ import annotations

__all__ = ["media_tables"]

from collections.abc import Iterator, Sequence
from pathlib import Path

from pretune.array_reading import array_table, holds_labels
from pretune.errors import DataError
from pretune.formats import below, format_of
from pretune.readers import RowError, RowStream, Table, file_table

_NOUNS = {"image": "image", "audio": "recording"}
_UNREADABLE = (".m4a", ".aac", ".wma", ".amr")
"""Recordings that libsndfile cannot read: to pass over them would lose rows silently."""


def media_tables(
    root: Path,
    files: Sequence[Path],
    *,
    medium: str,
    labelled: bool,
    tabled: bool = False,
    split: str | None = None,
    ignored: Sequence[Path] = (),
) -> Iterator[Table]:
    """The tables of a folder or file of images or recordings.

    Pictures, recordings and array files are read as they are; tables (.csv, .jsonl, .parquet ...) beside them when
    more than the input is wanted, or when there is nothing else.

    Args:
        root: The folder (or file) that was named; when labels are wanted, its sub-folders are the classes.
        files: What is in it.
        medium: ``image`` or ``audio``.
        labelled: Labels are wanted.
        tabled: Something is wanted that only a table has, such as transcripts.
        split: The split of an .npz file that has several.
        ignored: Files of other formats.

    Raises:
        DataError: Labels are wanted and there is neither a class sub-folder nor a table, nor labels beside an array;
            or there are recordings of a format that cannot be read.
    """
    media = [f for f in files if format_of(f) == medium]
    arrays = [f for f in files if format_of(f) == "array"]
    tables = [f for f in files if format_of(f) not in (medium, "array")]
    if tables and (labelled or tabled or not (media or arrays)):
        yield from (file_table(f) for f in tables)
        return
    if media:
        _require_readable(root, ignored, medium)
        yield _media_table(root, media, medium, labelled)
    inputs = [f for f in arrays if len(arrays) == 1 or not holds_labels(f)]
    yield from (array_table(f, labelled=labelled, split=split) for f in inputs)


def _require_readable(root: Path, ignored: Sequence[Path], medium: str) -> None:
    found = [f for f in ignored if f.suffix.lower() in _UNREADABLE and f.is_relative_to(root)]
    if medium == "audio" and found:
        raise DataError(
            f'"{root}" has {len(found)} recordings of a format that cannot be read, such as "{found[0].name}"; convert '
            f'them (ffmpeg -i "{found[0].name}" "{found[0].stem}.flac") or move them away.'
        )


def _media_table(root: Path, files: Sequence[Path], medium: str, labelled: bool) -> Table:
    if not labelled:
        hint = f" A folder of {_NOUNS[medium]}s has no columns: give a .csv, .jsonl or .parquet file with one of paths."
        rows = [(number, {medium: str(file)}) for number, file in enumerate(files, 1)]
        return Table(str(root), [medium], lambda _: iter(rows), hint=hint)
    if all(len(_inside(f, root)) < 2 for f in files):
        raise DataError(
            f'"{root}" has {_NOUNS[medium]}s and no class sub-folders; expected one sub-folder for each label, or a '
            ".csv, .jsonl or .parquet file with a column of paths and one of labels."
        )
    return Table(str(root), [medium, "label"], lambda _: _labelled_rows(root, files, medium))


def _inside(file: Path, root: Path) -> tuple[str, ...]:
    return below(file, root) or (file.name,)


def _labelled_rows(root: Path, files: Sequence[Path], medium: str) -> RowStream:
    for number, file in enumerate(files, 1):
        parts = _inside(file, root)
        if len(parts) < 2:
            reason = f'the {_NOUNS[medium]} "{file.name}" is in no class sub-folder; move it into one, or away.'
            yield number, RowError(str(root), number, reason)
        else:
            yield number, {medium: str(file), "label": parts[0]}
