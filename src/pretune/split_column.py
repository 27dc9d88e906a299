"""One split of a table whose rows say which they belong to."""

from __future__ import annotations

__all__ = ["of_split"]

from collections.abc import Callable, Sequence
from dataclasses import replace

from pretune.errors import DataError, did_you_mean
from pretune.readers import RowError, RowStream, Table

COLUMN = "split"


def of_split(table: Table, split: str, usual: Callable[[str], str]) -> Table:
    """The rows of a table whose column ``split`` names `split`.

    Args:
        table: Of a file.
        split: The wanted one.
        usual: The usual name of a split (``dev``: ``valid``).

    Raises:
        DataError: There is no such column; or, while reading, no such row.
    """
    if table.columns is not None and COLUMN not in table.columns:
        raise DataError(
            f'"{table.file}" has no split "{split}", for it has no column "{COLUMN}"; leave ":{split}" out, or add it.'
        )
    return replace(table, rows=lambda needed: _rows(table, split, usual, needed))


def _rows(table: Table, split: str, usual: Callable[[str], str], needed: Sequence[str] | None) -> RowStream:
    seen: set[str] = set()
    chosen = False
    for number, row in table.rows(None if needed is None else [*needed, *({COLUMN} - set(needed))]):
        if isinstance(row, RowError):
            yield number, row
            continue
        name = str(row.get(COLUMN, ""))
        seen.add(name)
        if usual(name) == usual(split):
            chosen = True
            yield number, row
    if not chosen:
        raise DataError(
            f'"{table.file}" has no rows of the split "{split}"; it has: {", ".join(sorted(seen))}.'
            f"{did_you_mean(split, seen)}"
        )
