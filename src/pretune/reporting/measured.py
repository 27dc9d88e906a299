"""Held-out results with examples: any size of test data is read and predicted once, in parts."""

from __future__ import annotations

__all__ = ["Measured", "measure"]

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
        trivial: What answers the same always, and its primary metric; None where nothing such is meaningful.
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
    answer = _trivial(task, labels)
    worth = None if answer is None else (answer[0], _scored(task, answer[1], labels))
    return Measured(name, evaluation, predicted, labels, examples, worth, _gain(predicted, labels, answer))


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
        examples.offer(RIGHT, -wrong, example)
        return
    sure = float(prediction["probabilities"][prediction["label"]])
    examples.offer(cell, sure, example)
    examples.offer(WRONG if wrong else RIGHT, sure, example)


def _trivial(task: Task, labels: Sequence[Any]) -> tuple[str, Prediction] | None:
    """What knows nothing of the input: the most common class or set of the test labels, or their mean."""
    if task.name == "regression":
        return "an answer that is always the mean", {"value": float(np.mean([float(v) for v in labels]))}
    if task.name != "classification":
        return None
    if getattr(task, "multi_label", False):
        sets = Counter(tuple(sorted(task.read_label({"label": v}, "label"))) for v in labels)
        names = list(sets.most_common(1)[0][0])
        return f"always answering {', '.join(names) or 'nothing'}", {"labels": names}
    most = Counter(map(str, labels)).most_common(1)[0][0]
    return f"always answering {most}", {"label": most}


def _scored(task: Task, answer: Prediction, labels: Sequence[Any]) -> float:
    return task.metrics([answer] * len(labels), labels)[task.primary]


def _gain(
    predicted: Sequence[Prediction], labels: Sequence[Any], answer: tuple[str, Prediction] | None
) -> Interval | None:
    if answer is None or "label" not in answer[1]:
        return None
    truth = [str(label) for label in labels]
    ours = [float(p["label"] == t) for p, t in zip(predicted, truth, strict=True)]
    return paired_difference(ours, [float(answer[1]["label"] == t) for t in truth])
