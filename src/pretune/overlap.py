"""Which labelled records a run has been trained on, as far as that can be told."""

from __future__ import annotations

__all__ = ["seen_in_training"]

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from pretune import data as data_io
from pretune.columns import FILE_ROLES
from pretune.errors import PretuneError
from pretune.modalities.base import Modality
from pretune.run_data import why_changed
from pretune.tasks.base import Task


def seen_in_training(
    records: Dataset, task: Task, modality: Modality, recipe: Mapping[str, Any], contents: Mapping[str, str]
) -> tuple[set[int], bool]:
    """Positions of records whose inputs are among those that a run was trained on or chosen by.

    Args:
        records: Columns named by role.
        task: Of the run.
        modality: Of the run.
        recipe: Of the run: names its data.
        contents: Fingerprints of its data by role, as in lineage.json.

    Returns:
        The positions; and whether all of that data was still there to compare with.
    """
    roles = list(task.input_roles(modality))
    known: set[str] = set()
    complete = True
    for name, role in (("data", "train"), ("valid", "valid")):
        if role not in contents:
            continue
        found = _still_there(recipe.get(name), task, modality, recipe.get("columns") or {}, contents[role])
        complete = complete and found is not None
        known |= {_key(r, roles) for r in found} if found is not None else set()
    return {i for i, r in enumerate(records) if _key(r, roles) in known} if known else set(), complete


def _still_there(
    source: Any, task: Task, modality: Modality, columns: Mapping[str, str], content: str
) -> Dataset | None:
    if why_changed(source, content, task.source):
        return None
    roles = task.input_roles(modality)
    named = {role: column for role, column in columns.items() if role in roles}
    try:
        wanted = roles | {task.label_role: task.label_columns}
        return data_io.read_records(task.source(source), roles=wanted, columns=named)
    except (PretuneError, OSError):
        return None


def _key(record: Mapping[str, Any], roles: Sequence[str]) -> str:
    """A hash of the inputs: of files their bytes, of texts their words."""
    digest = hashlib.blake2b(digest_size=12)
    for role in roles:
        digest.update(_content(record.get(role), role in FILE_ROLES) + b"\0")
    return digest.hexdigest()


def _content(value: Any, is_file: bool) -> bytes:
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if is_file and Path(str(value)).is_file():
        return Path(str(value)).read_bytes()
    return " ".join(value.split()).encode() if isinstance(value, str) else json.dumps(value, default=str).encode()
