"""Files and folders of sequences to tables; sub-folders as labels."""

from __future__ import annotations

__all__ = ["class_folders", "sequence_tables", "stray_file"]

from collections.abc import Iterator, Sequence
from pathlib import Path

from pretune.formats import SEQUENCES, TABLES, below, format_of
from pretune.readers import RowError, RowStream, Table, file_table
from pretune.sequence_reading import sequence_table


def sequence_tables(root: Path, files: Sequence[Path], *, labelled: bool) -> Iterator[Table]:
    """A table a file.

    Args:
        root: The folder (or file) that was named; when labels are wanted and it has a sub-folder of sequence files
            (or of ``.txt`` with a sequence a line) for each class, their names are the labels of every record.
        files: What is in it.
        labelled: Labels are wanted.

    Raises:
        DataError: A file cannot be opened, or its header cannot be read.
    """
    classes = labelled and class_folders(root, files) and not any(format_of(f) in TABLES for f in files)
    for file in files:
        table = sequence_table(file) if format_of(file) in SEQUENCES else file_table(file)
        yield _of_class(table, below(file, root)[0]) if classes else table


def class_folders(root: Path, files: Sequence[Path]) -> bool:
    """Whether every file is in a sub-folder, and there are several."""
    inner = [below(f, root) for f in files if f != root]
    return all(len(p) > 1 for p in inner) and len({p[0] for p in inner}) > 1


def stray_file(root: Path, files: Sequence[Path]) -> Path | None:
    """A file beside several sub-folders of which each might be a class."""
    inner = {f: below(f, root) for f in files if f != root}
    beside = next((f for f, p in inner.items() if len(p) == 1), None)
    return beside if len({p[0] for p in inner.values() if len(p) > 1}) > 1 else None


def _of_class(table: Table, label: str) -> Table:
    columns = None if table.columns is None else [*table.columns, "label"]

    def rows(needed: Sequence[str] | None) -> RowStream:
        for number, row in table.rows(needed):
            own = label if isinstance(row, RowError) else row.get("label", label)
            if isinstance(row, RowError) or own == label:
                yield number, row if isinstance(row, RowError) else row | {"label": label}
            else:
                reason = f'its own label is "{own}", that of its folder "{label}"; leave one of them out.'
                yield number, RowError(table.file, number, reason, table.unit)

    return Table(table.file, columns, rows, table.unit, table.hint, table.base)
