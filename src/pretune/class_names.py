"""Class numbers in `datasets` features and parquet files, as the names that they stand for."""

from __future__ import annotations

__all__ = ["class_names", "with_names"]

from collections.abc import Sequence
from typing import Any


def class_names(features: Any) -> dict[str, list[str]]:
    """The columns of class numbers (also lists of them) in `datasets` features, with their names."""
    found = {}
    for column, feature in (features or {}).items():
        inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
        if hasattr(inner, "int2str"):
            found[column] = list(inner.names)
    return found


def with_names(row: dict[str, Any], names: dict[str, list[str]]) -> dict[str, Any]:
    """The row with class numbers replaced by their names; -1 (the Hub's "no label") becomes None."""
    for column, known in names.items():
        if (value := row.get(column)) is not None:
            as_list = isinstance(value, list)
            row[column] = [_name(v, known) for v in value] if as_list else _name(value, known)
    return row


def _name(number: int | None, known: Sequence[str]) -> str | None:
    return known[number] if number is not None and number >= 0 else None
