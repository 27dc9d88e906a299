"""Held-out results with examples: any size of test data is read and predicted once, in parts."""

from __future__ import annotations

__all__ = ["Measured", "measure"]

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pretune.data import stream_records
from pretune.errors import DataError
from pretune.evaluation import Evaluation, judge, predictions
from pretune.intervals import Interval, paired_difference
from pretune.predicting import CHUNK, Predictor
from pretune.reporting.examples import SCORED, Example, Examples, sort_of, wrongness
from pretune.tasks.base import Prediction, Task

RIGHT, WRONG = "right", "wrong"
"""Sorts of examples beside the cells of a confusion matrix: the least and the most wrong ones."""


@dataclass(frozen=True)
class Measured:
    """What was found on test data.

    Attributes:
        name: Where the data is.
        evaluation: Metrics with intervals.
        predicted: One prediction a record.
        labels: Raw labels.
        examples: By cell of the confusion matrix, and of the sorts `RIGHT` and `WRONG`.
        trivial: What answers without a look at the input, and its primary metric; None where that finds nothing.
        gain: Of accuracy over that, paired.
    """

    name: str
    evaluation: Evaluation
    predicted: list[Prediction]
    labels: list[Any]
    examples: Examples
    trivial: tuple[str, float] | None
    gain: Interval | None


def measure(predictor: Predictor, source: Any, columns: Mapping[str, str], *, name: str, seed: int = 0) -> Measured:
    """Predicts and scores labelled data.

    Args:
        predictor: Of the run.
        source: Labelled data.
        columns: The column of a role, where it has another than a usual name.
        name: Where the data is, for the report.
        seed: Of the resampling.

    Raises:
        DataError: Data that cannot be read, or a label that the task does not know; names file and row.
    """
    task = predictor.task
    predicted: list[Prediction] = []
    labels: list[Any] = []
    examples = Examples()
    for records, found in _parts(predictor, source, columns):
        for record, prediction in zip(records, found, strict=True):
            label = task.read_label(record, task.label_role)
            _keep(task, examples, record, label, prediction, len(labels))
            predicted.append(prediction)
            labels.append(label)
    if not labels:
        raise DataError(f'"{name}" has no records, and results need some; give other --test data.')
    evaluation = judge(task, predicted, labels, seed=seed)
    blind = task.blind(labels)
    worth = None if blind is None else (blind[0], task.metrics(blind[1], labels)[task.primary])
    return Measured(name, evaluation, predicted, labels, examples, worth, _gain(predicted, labels, blind))


def _parts(
    predictor: Predictor, source: Any, columns: Mapping[str, str]
) -> Iterator[tuple[list[Mapping[str, Any]], list[Prediction]]]:
    """Records and their predictions, a part at a time."""
    task = predictor.task
    rows = stream_records(
        task.source(source),
        roles={**predictor.roles, task.label_role: task.label_columns},
        columns=columns,
        required=task.required_roles(task.modality),
    )
    while part := list(itertools.islice(rows, CHUNK)):
        records: list[Mapping[str, Any]] = []
        for record, error in part:
            if error is not None or record is None:
                raise error or DataError("A row has neither a record nor an error.")
            records.append(record)
        inputs = [{k: v for k, v in r.items() if k != task.label_role} for r in records]
        examples = task.process(inputs)
        for known, example in zip(records, examples, strict=True):
            _check(task, known, example)
        yield records, predictions(task, examples, precision=predictor.precision)


def _check(task: Task, record: Mapping[str, Any], example: Any) -> None:
    """A label that the task does not know is named with its row."""
    try:
        task.labelled(example, record[task.label_role])
    except DataError as error:
        raise DataError(f"{record['_file']}, row {record['_row']}: {error}") from error


def _keep(
    task: Task, examples: Examples, record: Mapping[str, Any], label: Any, prediction: Prediction, place: int
) -> None:
    cell = sort_of(prediction, label)
    costly = cell is None and not {"labels", "value", "tags"} & prediction.keys()
    if costly and place >= SCORED:
        return
    wrong = wrongness(task, prediction, label)
    example = Example(record, label, prediction, wrong)
    if cell is None:
        examples.offer(WRONG, wrong, example)
        examples.offer(RIGHT, -wrong - 0.5 * (prediction.get("spans") == []), example)  # one with something to see
        return
    sure = float(prediction["probabilities"][prediction["label"]])
    examples.offer(cell, sure, example)
    examples.offer(WRONG if wrong else RIGHT, sure, example)


def _gain(
    predicted: Sequence[Prediction], labels: Sequence[Any], blind: tuple[str, list[Prediction]] | None
) -> Interval | None:
    if blind is None or "label" not in blind[1][0]:
        return None
    truth = [str(label) for label in labels]
    ours, other = ([float(p["label"] == t) for p, t in zip(rows, truth, strict=True)] for rows in (predicted, blind[1]))
    return paired_difference(ours, other)
