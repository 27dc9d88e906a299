"""Records of any source to vectors and what shows them, a part at a time; bad rows are counted and named."""

from __future__ import annotations

__all__ = ["Gathered", "gather"]

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pretune.embedding import Embedder, content
from pretune.errors import DataError
from pretune.modalities.base import Example
from pretune.neighbour_index import Shown

_PART = 1024

Row: TypeAlias = tuple[Mapping[str, Any] | None, Exception | None]
"""A record, or the error of its row, as `pretune.data.stream_records` gives them."""


@dataclass(frozen=True)
class Gathered:
    """What was read.

    Attributes:
        vectors: Of the encoder, shape (records, width).
        shown: What shows each record.
        num_repeated: Records left out, because the model reads the same in an earlier one.
        num_bad: Rows that cannot be used.
        first_bad: The error of the first of them.
        examples: The first records, processed; as many as were to be kept.
    """

    vectors: NDArray[np.float32]
    shown: list[Shown]
    num_repeated: int = 0
    num_bad: int = 0
    first_bad: str = ""
    examples: list[Example] = field(default_factory=list)

    @property
    def remarks(self) -> str:
        """What was left out, for a line of text."""
        found = f", {self.num_repeated:,} repeated" if self.num_repeated else ""
        return found + (f", {self.num_bad:,} that cannot be used (first: {self.first_bad})" if self.num_bad else "")


def gather(
    rows: Iterable[Row],
    embedder: Embedder,
    show: Callable[[Mapping[str, Any]], Shown],
    *,
    distinct: bool,
    keep: int = 0,
) -> Gathered:
    """Reads rows to their end.

    Args:
        rows: Records and errors.
        embedder: Gives the vectors.
        show: What shows a record.
        distinct: Leave out a record that equals an earlier one.
        keep: How many processed records to keep.
    """
    parts = [np.zeros((0, embedder.width), dtype=np.float32)]
    shown: list[Shown] = []
    known: set[bytes] = set()
    errors: list[str] = []
    examples: list[Example] = []
    num_repeated = 0
    stream = iter(rows)
    while part := list(itertools.islice(stream, _PART)):
        records = [record for record, _ in part if record is not None]
        errors += [str(error) for _, error in part if error is not None]
        kept = []
        for record, example in zip(records, embedder.process(records) if records else [], strict=True):
            if isinstance(example, DataError):
                errors.append(f"{record['_file']}, row {record['_row']}: {example}")
                continue
            key = content(example)
            if distinct and key in known:
                num_repeated += 1
                continue
            known.add(key)
            kept.append(example)
            shown.append({"file": record["_file"], "row": record["_row"], **show(record)})
        examples += kept[: keep - len(examples)]
        parts.append(embedder.examples(kept))
    return Gathered(np.concatenate(parts), shown, num_repeated, len(errors), errors[0] if errors else "", examples)
