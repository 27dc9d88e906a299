"""Columns that look like text and are not read: the one that was meant may be among them."""

from __future__ import annotations

__all__ = ["say_unread", "unread"]

from collections.abc import Mapping, Sequence
from typing import Any

from pretune.columns import Columns
from pretune.data import TEXT_COLUMNS, tables_of
from pretune.progress import say
from pretune.readers import RowError, Table
from pretune.sources import STDIN


def unread(source: Any, roles: Mapping[str, Sequence[str]], columns: Mapping[str, str] | None) -> str:
    """What to say of the columns of the first table that have usual names of texts and are not read; else nothing.

    Args:
        source: As for `pretune.data.read_records`; of standard input, which is read once, nothing is said.
        roles: Usual column names of each role that is read.
        columns: The column of each role that the user names: where that is the text, there is no doubt.
    """
    named = dict(columns or {})
    if "text" not in roles or "text" in named or (isinstance(source, str) and source == STDIN):
        return ""
    table = next(iter(tables_of(source, roles, named, ())), None)
    if table is None:
        return ""
    present = _present(table)
    chosen = Columns(roles, named).choose(present, table.file)
    # beside a column that is called "text", others are further facts, and a second text is still a second text
    usual = TEXT_COLUMNS["text_pair"] if chosen.get("text") == "text" else sum(map(tuple, TEXT_COLUMNS.values()), ())
    if chosen.get("text") == roles["text"][0] != "text":
        return ""  # named in training
    rest = ", ".join(f'"{c}"' for c in present if c.lower() in usual and c not in chosen.values())
    if "text" not in chosen or not rest:
        return ""
    read = " and ".join(f'"{chosen[r]}"' for r in ("text", "text_pair") if r in chosen)
    options = "--text_column and --text_pair_column name" if "text_pair" in roles else "--text_column names"
    return f"{table.file}: the text is read from {read} and not from {rest}; {options} what is meant"


def say_unread(source: Any, roles: Mapping[str, Sequence[str]], columns: Mapping[str, str] | None) -> None:
    """Prints what `unread` says, where that is something."""
    if note := unread(source, roles, columns):
        say(note)


def _present(table: Table) -> Sequence[str]:
    if table.columns is not None:
        return table.columns
    _, first = next(iter(table.rows(None)), (0, {}))
    return [] if isinstance(first, RowError) else list(first)
