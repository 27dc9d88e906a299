"""The one input of records of pictures or sound: its values in any source, what identifies them, where each is from."""

from __future__ import annotations

__all__ = ["input_key", "inputs_of", "path_of"]

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from pretune import data
from pretune.errors import DataError


def inputs_of(source: Any, role: str, usual: Sequence[str], columns: Mapping[str, str]) -> Iterator[Any]:
    """The value of `role` in every record of a source.

    Args:
        source: A folder, table, array, Hub name or records.
        role: ``image`` or ``audio``.
        usual: Usual names of its column.
        columns: The column of a role where the user named it.

    Raises:
        DataError: A row that cannot be read.
    """
    if isinstance(source, datasets.Dataset) and role in source.column_names:
        yield from (record[role] for record in source.select_columns([role]).with_format(None))
        return
    named = {r: c for r, c in columns.items() if r == role}
    for record, error in data.stream_records(source, roles={role: usual}, columns=named, required=(role,)):
        if error is not None or record is None:
            raise error or DataError("A row has neither a record nor an error.")
        yield record[role]


def input_key(source: Any, columns: Mapping[str, str], values: Iterable[Any]) -> str:
    """What identifies the inputs of a source: its content, named columns, and the files that rows point to."""
    return str([data.fingerprint(source), columns, _file_states(values)])


def _file_states(values: Iterable[Any]) -> str:
    """A hash of names, sizes and times of the files that rows point to: their content is not in a table's own hash."""
    digest = hashlib.blake2b(digest_size=12)
    for value in values:
        if isinstance(value, str):
            state = Path(value).stat() if Path(value).exists() else None
            digest.update(f"{value} {state and (state.st_size, state.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


def path_of(record: Mapping[str, Any], role: str) -> dict[str, Any]:
    """The path of a record's input by its role, where there is one."""
    value = record[role]
    path = value.get("path") if isinstance(value, dict) else value
    return {role: path} if isinstance(path, str) else {}
