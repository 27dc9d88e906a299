"""`pretune label-next`: which unlabelled records are worth a label next, as a table to fill in."""

from __future__ import annotations

__all__ = ["Candidate", "label_next", "label_next_command"]

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pretune.columns import check_roles
from pretune.data import stream_records
from pretune.embedding import Embedder, content, read_recipe, unit
from pretune.errors import ConfigError, DataError
from pretune.evaluation import buckets, evaluating, to_device
from pretune.label_selection import choose
from pretune.label_table import check_out, table_rows, write_table
from pretune.limits import check_numbers
from pretune.modalities.base import Example
from pretune.predicting import CHUNK, Predictor, load
from pretune.progress import say
from pretune.run_data import labelled_data
from pretune.tasks.base import Prediction, Task


@dataclass(frozen=True)
class Candidate:
    """An unlabelled record.

    Attributes:
        record: Its values by role, with ``_file`` and ``_row``.
        prediction: Of the run's model.
        uncertainty: 0 (sure) to 1; None where the task has none.
        vector: Of the run's encoder.
    """

    record: Mapping[str, Any]
    prediction: Prediction
    uncertainty: float | None
    vector: Any


@dataclass
class _Seen:
    """What was read; nothing of it is lost silently."""

    total: int = 0
    num_known: int = 0
    num_repeated: int = 0
    num_surer: int = 0
    errors: int = 0
    first_error: str = ""

    def bad(self, error: object) -> None:
        self.errors += 1
        self.first_error = self.first_error or str(error)

    def say(self, chosen: int) -> None:
        parts = [
            (self.num_known, "labelled already"),
            (self.num_repeated, "equal to an earlier record"),
            (self.num_surer, "left out before clustering (--num_candidates)"),
            (self.errors, f"that cannot be used (first: {self.first_error})"),
        ]
        rest = "".join(f"; {n:,} {what}" for n, what in parts if n)
        say(f"{chosen:,} chosen of {self.total:,} records{rest}")


def label_next(
    run: str,
    data: Any,
    *,
    num: int = 50,
    labelled: Any = None,
    columns: Mapping[str, str] | None = None,
    num_candidates: int = 20_000,
    batch_size: int = 64,
    seed: int = 0,
) -> list[Candidate]:
    """Chooses the unlabelled records whose labels should help most: the model is unsure of them, and they differ.

    Args:
        run: A run directory of `finetune`.
        data: Unlabelled data, of any sort that `predict` reads.
        num: How many to choose.
        labelled: Records that have labels and are left out; not given: what the run was trained on.
        columns: Column of each role, where the usual names do not fit.
        num_candidates: Most records to choose among: those that the model is least sure of. Memory grows with it, not
            with the data.
        batch_size: Most records in one run of the model.
        seed: Of what is drawn.

    Returns:
        The chosen ones, best first.

    Raises:
        PretuneError: In one sentence, what is wrong with the run, the data or an option.
    """
    options = {"num": num, "num_candidates": num_candidates, "batch_size": batch_size, "seed": seed}
    return _chosen(load(run), data, labelled=labelled, columns=columns, **options)


def _chosen(
    predictor: Predictor,
    data: Any,
    *,
    num: int,
    labelled: Any,
    columns: Mapping[str, str] | None,
    num_candidates: int,
    batch_size: int,
    seed: int,
) -> list[Candidate]:
    check_numbers({"num": num, "num_candidates": num_candidates, "batch_size": batch_size, "seed": seed})
    if num_candidates < num:
        raise ConfigError(f"num_candidates must be at least num, {num}; found {num_candidates}.")
    check_roles(columns, list(predictor.roles))
    embedder, seen = Embedder.of(predictor.task), _Seen()
    known = _labelled_contents(predictor, embedder, labelled, dict(columns or {}))
    kept: list[Candidate] = []
    draw = np.random.default_rng(seed)
    for part in _candidates(predictor, embedder, data, columns or {}, known, seen, batch_size):
        kept, dropped = _least_sure([*kept, *part], num_candidates, draw)
        seen.num_surer += dropped
    if not kept:
        unusable = f", {seen.errors:,} cannot be used (first: {seen.first_error})" if seen.errors else ""
        raise DataError(
            f"There is nothing to label: of {seen.total:,} records {seen.num_known:,} are labelled already{unusable}."
        )
    if kept[0].uncertainty is None:
        say(f"{predictor.task.name} gives no probability of its predictions: the choice is by diversity alone")
    chosen = [kept[i] for i in _choice(kept, num, seed)]
    seen.say(len(chosen))
    return chosen


def _choice(kept: Sequence[Candidate], num: int, seed: int) -> list[int]:
    vectors = np.stack([c.vector for c in kept])
    unsure = [c.uncertainty for c in kept if c.uncertainty is not None]
    scores = np.array(unsure) if unsure else None
    return choose(unit(vectors - vectors.mean(0)), scores, num, seed=seed).tolist()


def _least_sure(found: list[Candidate], most: int, draw: np.random.Generator) -> tuple[list[Candidate], int]:
    """At most so many candidates, in their order, and how many had to go: the surest, or any where none is surer."""
    if len(found) <= most:
        return found, 0
    scores = np.array([0.0 if c.uncertainty is None else -c.uncertainty for c in found])
    order = np.lexsort((draw.random(len(found)), scores))[:most]
    return [found[i] for i in np.sort(order)], len(found) - most


def _labelled_contents(predictor: Predictor, embedder: Embedder, given: Any, columns: dict[str, str]) -> set[bytes]:
    """What the labelled records look like to the model."""
    assert predictor.path is not None
    source = labelled_data(predictor.path, read_recipe(predictor.path), given, columns)
    if source is None:
        return set()
    task = predictor.task
    named = {role: column for role, column in source.columns.items() if role in predictor.roles}
    rows = stream_records(task.source(source.source), roles=predictor.roles, columns=named, required=predictor.required)
    found: set[bytes] = set()
    while part := list(itertools.islice(rows, CHUNK)):
        records = [record for record, _ in part if record is not None]
        found |= {content(e) for e in (embedder.process(records) if records else []) if not isinstance(e, DataError)}
    return found


def _candidates(
    predictor: Predictor,
    embedder: Embedder,
    data: Any,
    columns: Mapping[str, str],
    known: set[bytes],
    seen: _Seen,
    batch_size: int,
) -> Iterator[list[Candidate]]:
    """New records with predictions and vectors, a part at a time."""
    task = predictor.task
    rows = stream_records(task.source(data), roles=predictor.roles, columns=columns, required=predictor.required)
    before: set[bytes] = set()
    while part := list(itertools.islice(rows, CHUNK)):
        seen.total += len(part)
        for _, error in part:
            if error is not None:
                seen.bad(error)
        records = [record for record, _ in part if record is not None]
        new: list[tuple[Mapping[str, Any], Example]] = []
        for record, example in zip(records, embedder.process(records) if records else [], strict=True):
            if isinstance(example, DataError):
                seen.bad(f"{record['_file']}, row {record['_row']}: {example}")
                continue
            key = content(example)
            seen.num_known += key in known
            seen.num_repeated += key in before and key not in known
            if key not in known and key not in before:
                new.append((record, example))
            before.add(key)
        if new:
            yield _judged(task, embedder, new, batch_size)


def _judged(
    task: Task, embedder: Embedder, new: Sequence[tuple[Mapping[str, Any], Example]], batch_size: int
) -> list[Candidate]:
    vectors = embedder.examples([example for _, example in new], batch_size=batch_size)
    records = [record for record, _ in new]
    judged = _predictions(task, task.process(records), batch_size)
    return [Candidate(r, p, u, v) for r, (p, u), v in zip(records, judged, vectors, strict=True)]


def _predictions(task: Task, examples: Sequence[Example], batch_size: int) -> list[tuple[Prediction, float | None]]:
    """Each example's prediction, and how unsure it is."""
    found: list[tuple[Prediction, float | None]] = [({}, None)] * len(examples)
    with evaluating(task), torch.inference_mode():
        for chosen in buckets([task.modality.length(e) for e in examples], batch_size):
            members = [examples[i] for i in chosen]
            batches = [to_device(task.collate(view), task.device) for view in task.modality.views(members)]
            logits = torch.stack([task(batch)["logits"].float() for batch in batches]).mean(0)
            decoded = task.decode(logits, batches[0], members)
            given = task.uncertainty(logits, batches[0], decoded)
            unsure: Sequence[float | None] = [None] * len(decoded) if given is None else given
            for position, prediction, value in zip(chosen, decoded, unsure, strict=True):
                found[position] = (prediction, value)
    return found


def label_next_command(
    run: str,
    data: str,
    *,
    out: str,
    num: int = 50,
    labelled: str | None = None,
    columns: Mapping[str, str] | None = None,
    num_candidates: int = 20_000,
    batch_size: int = 64,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Chooses the unlabelled records whose labels should help most: the model is unsure of them, and they differ.

    Args:
        run: A run directory of `pretune finetune`.
        data: Unlabelled file, folder or Hub name, or - for standard input.
        out: The .csv to write, with an empty column to fill in.
        num: How many to choose.
        labelled: Records that have labels and are left out; not given: what the run was trained on.
        columns: Column of each role, where the usual names do not fit.
        num_candidates: Most records to choose among: those that the model is least sure of.
        batch_size: Most records in one run of the model.
        seed: Of what is drawn.
        overwrite: Replace the file in `out`.
    """
    file = check_out(out, overwrite)
    predictor = load(run)
    found = _chosen(
        predictor,
        data,
        num=num,
        labelled=labelled,
        columns=columns,
        num_candidates=num_candidates,
        batch_size=batch_size,
        seed=seed,
    )
    rows = [(c.record, c.prediction, c.uncertainty) for c in found]
    write_table(table_rows(predictor, data, columns or {}, rows), file)
    say(f'wrote {file}; fill in its column "{predictor.task.label_role}" and give it to finetune')
    return 0
