"""Rows of what is in memory already: data sets, DataFrames, lists."""

from __future__ import annotations

__all__ = ["dataset_rows", "dataset_table", "frame_rows", "list_rows"]

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import datasets
import numpy as np

from pretune.class_names import class_names, with_names
from pretune.errors import DataError
from pretune.readers import RowError, RowStream, Table

_BATCH = 512
_RECORDING = ("array", "sampling_rate", "bytes", "path")


def dataset_table(data: datasets.Dataset, name: str) -> Table:
    """The rows of a `datasets.Dataset`, class numbers replaced by their names."""
    return Table(name, data.column_names, partial(_dataset_rows, data))


def _dataset_rows(data: datasets.Dataset, needed: Sequence[str] | None) -> RowStream:
    chosen = data.select_columns(list(needed)) if needed is not None else data
    names = class_names(chosen.features)
    for number, row in enumerate(dataset_rows(chosen), 1):
        yield number, with_names(row, names)


def dataset_rows(data: datasets.Dataset) -> Iterator[dict[str, Any]]:
    """The rows as plain dicts, read by the hundred: one by one a data set gives them twenty times as slowly."""
    batches = data.with_format("arrow").iter(batch_size=_BATCH)
    return itertools.chain.from_iterable(batch.to_pylist() for batch in batches)


def frame_rows(frame: Any, needed: Sequence[str] | None) -> RowStream:
    """The rows of a DataFrame, or of a dict of arrays, as dicts of the `needed` columns."""
    names = [str(c) for c in frame.columns]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise DataError(f'The DataFrame has two columns "{twice[0]}"; rename one of them.')
    columns = {str(c): frame[c] for c in frame.columns if needed is None or str(c) in needed}
    for number, values in enumerate(zip(*columns.values(), strict=True), 1):
        yield number, dict(zip(columns, values, strict=True))


def list_rows(items: Sequence[Any], medium: str | None) -> RowStream:
    """Each item as a record: a dict as it is, a text, an image, a recording, or a list of tokens."""
    for number, item in enumerate(items, 1):
        if isinstance(item, dict):
            yield number, _with_recording(item) if medium == "audio" else item
        elif medium == "audio":
            yield number, {"audio": item}
        elif isinstance(item, np.ndarray) or hasattr(item, "convert") or (medium == "image" and not _is_words(item)):
            yield number, {"image": item}
        elif isinstance(item, str):
            yield number, {"sequence" if medium == "sequence" else "text": item}
        elif isinstance(item, list | tuple):
            yield number, {"tokens": list(item)}
        else:
            reason = f"expected a str, a dict or a list of tokens, found {type(item).__name__}."
            yield number, RowError("the list", number, reason)


def _with_recording(item: dict[str, Any]) -> dict[str, Any]:
    """The samples or the content of a file among the values of a row as its recording."""
    if "audio" in item or not {"array", "bytes"} & set(item):
        return item
    inside = {k: v for k, v in item.items() if k in _RECORDING}
    return {"audio": inside} | {k: v for k, v in item.items() if k not in _RECORDING}


def _is_words(item: Any) -> bool:
    return isinstance(item, list | tuple)
