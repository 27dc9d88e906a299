"""What an inspected run is shown: labelled records, those that it was trained and tested on unless others are named."""

from __future__ import annotations

__all__ = ["Part", "Shown", "records_for"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset

from pretune import data as data_io
from pretune import registry
from pretune.errors import ConfigError, DataError, PretuneError
from pretune.finetuning import VALID_RATE, parts_of
from pretune.inspected_run import Inspected
from pretune.labelled_examples import processed
from pretune.layer_states import Places, places_of
from pretune.modalities.base import Batch, Example
from pretune.objectives.base import require_kind
from pretune.probes import FEWEST, Answers, sort_of_labels
from pretune.reservoir import sampled
from pretune.run_data import why_changed
from pretune.tasks.base import Task

_WORDS = 5000
"""Words of tagged records that probes look at."""


@dataclass(frozen=True)
class Part:
    """Records of one role: `name` says where they are from; `labels` are raw; `answers` are what probes read."""

    name: str
    examples: list[Example]
    labels: list[Any]
    answers: Answers | None = None
    places: Places | None = None


@dataclass(frozen=True)
class Shown:
    """What probes learn from, what they and the whole model are scored on (if not the same), and how to batch it."""

    learn: Part
    held: Part | None
    collate: Callable[[Sequence[Example]], Batch]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Named:
    """Sources of data by role, and how a fine-tuning split them."""

    data: Any
    valid: Any = None
    test: Any = None
    rate: float = 0.0
    seed: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)


def records_for(
    run: Inspected,
    data: Any,
    test: Any,
    task: str | dict[str, Any] | Task | None,
    columns: Mapping[str, str] | None,
    number: int,
    seed: int,
) -> Shown | None:
    """Reads the data that was named, or else the run's own, if it is as it was; None: there is none to be had.

    The own data of a pre-trained run has no labels, so that there is nothing for probes to read.

    Raises:
        ConfigError: Options that do not fit this run.
        DataError: Data that cannot be used.
    """
    if data is None and test is not None and run.task is not None and not _gone(run, "train", run.recipe.get("data")):
        data = run.recipe["data"]
    if data is None:
        if test is not None or (task is not None and run.task is None):
            raise ConfigError("--test and --task say how to read labels; give the labels with --data too.")
        return _unlabelled(run, number, seed) if run.task is None else _own(run, number, seed)
    if run.task is not None and task is not None:
        raise ConfigError(f"{run.path} is fine-tuned and knows its task ({run.task.name}); leave --task out.")
    method = run.task or _task_for(run, task)
    seen = test is None and run.task is not None and _same(run, data)
    notes = [_seen(run, data)] if seen else []
    return _read(run, method, _Named(data, None, test, columns=columns or {}), number, seed, notes)


def _unlabelled(run: Inspected, number: int, seed: int) -> Shown | None:
    """Records of the data that was pre-trained on, each as likely as any other."""
    source, columns = run.recipe["data"], run.recipe.get("columns") or {}
    if _gone(run, "train", source):
        run.notes.append("Its training data is not there any more, or has changed: no records to look at; give --data.")
        return None
    main = next(iter(run.modality.inputs))
    roles = {main: run.modality.inputs[main]}
    stream = data_io.stream_records(source, roles=roles, columns=columns)
    usable = (record for record, error in stream if error is None and record is not None and record.get(main))
    kept = sampled(usable, number, seed=seed)
    if len(kept) < FEWEST:
        run.notes.append(f"Its training data has {len(kept)} records, too few to compare states of; give --data.")
        return None
    run.notes.append("Without labels there is nothing for probes to read; give labelled --data and a --task.")
    return Shown(Part(source, run.modality.process_many(kept), []), None, run.modality.pad)


def _gone(run: Inspected, role: str, source: Any) -> bool:
    """Whether data of the run is not there any more, or has other content."""
    located = {} if run.task is None else {"located": run.task.source}
    return bool(why_changed(source, run.facts.get("data", {}).get(role), **located))


def _task_for(run: Inspected, task: str | dict[str, Any] | Task | None) -> Task:
    method: Task = registry.build("task", task or "classification")
    require_kind(method, run.modality, registry.classes("task"))
    method.check(run.modality)
    method.modality = run.modality
    return method


def _seen(run: Inspected, data: Any) -> str:
    return (
        f'"{data}" is what {run.path} was fine-tuned on: its states of these records are better than of new ones; '
        "give --test, or other --data."
    )


def _same(run: Inspected, data: Any) -> bool:
    """Whether data that the user names is what the run was fine-tuned on."""
    assert run.task is not None
    try:
        return data_io.fingerprint(run.task.source(data)) == run.facts.get("data", {}).get("train")
    except PretuneError:
        return False


def _own(run: Inspected, number: int, seed: int) -> Shown | None:
    """The data of the fine-tuning: what it learnt from, and what it held out."""
    recipe = run.recipe
    roles = {"train": recipe.get("data"), "valid": recipe.get("valid"), "test": recipe.get("test")}
    gone = [r for r, d in roles.items() if d is not None and _gone(run, r, d)]
    if gone:
        absent = ", ".join(f"{r} data ({roles[r]})" for r in gone)
        run.notes.append(f"Its {absent} is not there any more, or has changed: no records to look at; give --data.")
        return None
    rate = 0.0 if recipe.get("valid") else VALID_RATE if recipe["valid_rate"] is None else recipe["valid_rate"]
    own = _Named(
        recipe["data"], recipe.get("valid"), recipe.get("test"), rate, int(recipe["seed"]), recipe.get("columns") or {}
    )
    assert run.task is not None
    return _read(run, run.task, own, number, seed, [])


def _read(run: Inspected, method: Task, named: _Named, number: int, seed: int, notes: list[str]) -> Shown:
    columns = dict(named.columns)
    parts = parts_of(named.data, named.valid, named.test, named.rate, method, run.modality, columns, named.seed)
    learn, held, tested = (_some(part, number, seed) for part in parts)
    if run.task is None:
        method.learn_labels([method.read_label(r, method.label_role) for r in learn])
    chosen = tested if len(tested) else held
    if run.task is not None and named.data == run.recipe.get("data") and not len(tested) and len(held):
        notes = [*notes, "Scored on the validation records, which chose the weights: slightly too good."]
    elif run.task is not None and named.data == run.recipe.get("data") and not len(chosen):
        notes = [*notes, _seen(run, named.data)]
    learnt = _part(run, method, learn, str(named.data), seed, grouped=not len(chosen))
    if run.task is None and learnt.answers is None:
        raise ConfigError(
            f"Labels of {method.name} are not one a record, word or residue, which is what a linear probe reads; give "
            "labels for another --task, or leave --data out."
        )
    name = str(named.test or named.valid or f"held-out part of {named.data}")
    scored = _part(run, method, chosen, name, seed, grouped=False) if len(chosen) else None
    return Shown(learnt, scored, method.collate, notes)


def _some(records: Dataset, number: int, seed: int) -> Dataset:
    chosen = np.random.default_rng(seed).permutation(len(records))[:number]
    return records.select(np.sort(chosen))


def _part(run: Inspected, method: Task, records: Dataset, name: str, seed: int, *, grouped: bool) -> Part:
    found = processed(records, method, run.modality)
    if not found.examples:
        raise DataError(f'"{name}" has no records; give labelled data.')
    groups = _groups(run, records) if grouped else None
    places = places_of(found.examples, _WORDS, seed) if sort_of_labels(found.examples) == "tag" else None
    return Part(name, found.examples, found.labels, _answers(method, found.examples, groups, places), places)


def _groups(run: Inspected, records: Dataset) -> np.ndarray[Any, Any] | None:
    """Speakers, or near copies: what must not be on both sides of a fold."""
    if "group" in records.column_names:
        return np.unique([str(g) for g in records["group"]], return_inverse=True)[1]
    near = run.modality.related(records)
    return None if near is None else np.asarray(near)


def _answers(method: Task, examples: list[Example], groups: Any, places: Places | None) -> Answers | None:
    sort = sort_of_labels(examples)
    if sort is None:
        return None
    labels = [e["labels"] for e in examples]
    if sort == "tag":
        assert places is not None
        values = np.concatenate([np.asarray(row)[words] for row, words in zip(labels, places, strict=True)])
        record_of = np.repeat(np.arange(len(labels)), [len(words) for words in places])
        metric = "macro_f1" if method.primary == "f1" else "accuracy"
        return Answers(sort, values, record_of, groups, metric)
    metric = {"class": "accuracy", "value": "r2", "classes": "micro_f1"}[sort]
    kind = float if sort == "value" else int
    return Answers(sort, np.asarray(labels, kind), np.arange(len(labels)), groups, metric)
