"""Folders of pictures and files of arrays to tables of rows: ``image`` and, where it is wanted, ``label``."""

from __future__ import annotations

__all__ = ["image_tables"]

from collections.abc import Iterator, Sequence
from pathlib import Path

from pretune.array_reading import array_table, holds_labels
from pretune.errors import DataError
from pretune.readers import RowError, RowStream, Table, file_table, format_of


def image_tables(root: Path, files: Sequence[Path], *, labelled: bool, split: str | None = None) -> Iterator[Table]:
    """The tables of a folder or file of images.

    Pictures and array files are read as they are; tables (.csv, .jsonl, .parquet ...) beside them when labels are
    wanted, or when there is nothing else.

    Args:
        root: The folder (or file) that was named; when labels are wanted, its sub-folders are the classes.
        files: What is in it.
        labelled: Labels are wanted.
        split: The split of an .npz file that has several.

    Raises:
        DataError: Labels are wanted and there is neither a class sub-folder nor a table, nor labels beside an array.
    """
    pictures = [f for f in files if format_of(f) == "image"]
    arrays = [f for f in files if format_of(f) == "array"]
    tables = [f for f in files if format_of(f) not in ("image", "array")]
    if tables and (labelled or not (pictures or arrays)):
        yield from (file_table(f) for f in tables)
        return
    if pictures:
        yield _picture_table(root, pictures, labelled)
    images = [f for f in arrays if len(arrays) == 1 or not holds_labels(f)]
    yield from (array_table(f, labelled=labelled, split=split) for f in images)


def _picture_table(root: Path, files: Sequence[Path], labelled: bool) -> Table:
    if not labelled:
        return Table(str(root), ["image"], lambda _: ((n, {"image": str(f)}) for n, f in enumerate(files, 1)))
    if all(len(_inside(f, root)) < 2 for f in files):
        raise DataError(
            f'"{root}" has images and no class sub-folders; expected one sub-folder for each label, or a .csv, .jsonl '
            "or .parquet file with a column of paths and one of labels."
        )
    return Table(str(root), ["image", "label"], lambda _: _labelled_rows(root, files))


def _inside(file: Path, root: Path) -> tuple[str, ...]:
    return file.relative_to(root).parts if file != root else (file.name,)


def _labelled_rows(root: Path, files: Sequence[Path]) -> RowStream:
    for number, file in enumerate(files, 1):
        parts = _inside(file, root)
        if len(parts) < 2:
            reason = f'the image "{file.name}" is in no class sub-folder; move it into one, or away.'
            yield number, RowError(str(root), number, reason)
        else:
            yield number, {"image": str(file), "label": parts[0]}
