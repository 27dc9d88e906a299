"""Labelled records and what a task makes of them, each error with its file and row."""

from __future__ import annotations

__all__ = ["Labelled", "placed", "processed", "raw_labels"]

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from pretune.errors import DataError
from pretune.memory_rows import dataset_rows
from pretune.modalities.base import Example, Modality
from pretune.tasks.base import Task


@dataclass(frozen=True)
class Labelled:
    """Records, their raw labels, and the processed examples with encoded labels."""

    records: Dataset
    labels: list[Any]
    examples: list[Example]


def raw_labels(records: Dataset, task: Task) -> list[Any]:
    """The label of each record, as `Task.metrics` takes it."""
    return [task.read_label(r, task.label_role) for r in dataset_rows(records)]


def processed(records: Dataset, task: Task, source: Modality, *, learn: bool = False) -> Labelled:
    """Every record with its label, to learn from or to score alone; an error names the file and row."""
    rows = list(dataset_rows(records))
    labels = [task.read_label(r, task.label_role) for r in rows]
    examples = []
    for row, example in zip(rows, _inputs(rows, task), strict=True):
        with placed(row):
            examples.append(task.labelled(example, row[task.label_role]))
            if learn:
                task.check_learnable(examples[-1])
    return Labelled(records, labels, examples)


def _inputs(rows: Sequence[Mapping[str, Any]], task: Task) -> Sequence[Example]:
    """What the task makes of the records; together, and one by one only to find the bad one."""
    try:
        return task.process(rows)
    except DataError:
        for row in rows:
            with placed(row):
                task.process([row])
        raise


@contextlib.contextmanager
def placed(row: Mapping[str, Any]) -> Iterator[None]:
    """Adds file and row to an error that does not name them."""
    try:
        yield
    except DataError as error:
        where = f"{row['_file']}, row {row['_row']}"
        raise error if where in str(error) else DataError(f"{where}: {error}") from error
