"""Checks of labels that do not depend on what they are labels of."""

from __future__ import annotations

__all__ = ["check_classes", "check_values", "number", "spelling_warnings"]

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pretune.check_report import SHOWN

FEW = 5
"""Rows of a class below which it is rare."""

_DOMINANT = 0.9


def number(label: Any) -> float | None:
    """The label as a finite number, if it is one."""
    try:
        value = float(label)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def check_values(values: Sequence[float], facts: dict[str, Any]) -> list[str]:
    """Adds the facts of numbers as labels; returns the problems."""
    if not len(values):
        return ["There is no row with a usable number."]
    found = np.array(values)
    facts["label mean"], facts["label standard deviation"] = float(found.mean()), float(found.std())
    facts["least label"], facts["greatest label"] = float(found.min()), float(found.max())
    same = found.min() == found.max()
    return [f"All labels are {found[0]:g}; nothing can be learnt from one value."] if same else []


def check_classes(counts: Counter[str], num_rows: int, facts: dict[str, Any], warnings: list[str]) -> list[str]:
    """Adds the facts and warnings of classes; returns the problems."""
    facts["classes"], facts["labels"] = len(counts), dict(counts.most_common())
    if len(counts) < 2:
        only = next(iter(counts), None)
        return [f"All rows have the label {only!r}; a task needs two." if counts else "No row is usable."]
    top, most = counts.most_common(1)[0]
    if most > _DOMINANT * num_rows:
        warnings.append(f'{most / num_rows:.1%} of the rows are "{top}": accuracy alone says little.')
    rare = [f"{label} ({n})" for label, n in counts.items() if n < FEW]
    if rare:
        warnings.append(f"{len(rare)} classes have fewer than {FEW} rows: {', '.join(rare[:SHOWN])}.")
    warnings += spelling_warnings(counts)
    if len(counts) > num_rows / 2:
        warnings.append(f"{len(counts):,} labels for {num_rows:,} rows: is this column the label?")
    return []


def spelling_warnings(labels: Iterable[str]) -> list[str]:
    """What to say of labels that are probably one."""
    spellings: dict[str, list[str]] = {}
    for label in labels:
        spellings.setdefault(_plain(label), []).append(label)
    alike = [same for same in spellings.values() if len(same) > 1]
    return [f"Labels that differ only by how they are written count as different: {same}." for same in alike]


def _plain(label: str) -> str:
    """A label without what spreadsheets and keyboards change: case, spaces, composed letters, ``1.0`` for ``1``."""
    text = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    value = number(text)
    return text if value is None else f"{value:g}"
