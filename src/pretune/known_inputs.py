"""Records that are scored, and whose inputs are those of training records."""

from __future__ import annotations

__all__ = ["say_known"]

import pyarrow as pa
from datasets import Dataset

from pretune.modalities.base import Modality
from pretune.progress import say
from pretune.tasks.base import Task


def say_known(train: Dataset, other: Dataset, name: str, task: Task, source: Modality) -> None:
    """Warns of records with the texts, the letters or the path of a training record; content in memory is not compared.

    Args:
        train: Training records.
        other: Others.
        name: What they are.
        task: Reads both.
        source: Of both.
    """
    roles = [r for r in task.input_roles(source) if r in train.column_names and r in other.column_names]
    if not roles or not len(other) or not all(train.data.column(r).type == pa.string() for r in roles):
        return
    seen, asked = (list(zip(*(part[r][:] for r in roles), strict=True)) for part in (train, other))
    every = set(seen)
    if known := sum(inputs in every for inputs in asked):
        share = f"{known:,} of {len(asked):,} {name} records ({known / len(asked):.0%})"
        say(f"{share} are training records, too, by their {' and '.join(roles)}: their score is one of memory")
