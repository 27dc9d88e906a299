"""The classical baseline of a task: what a modality offers to compare pre-training with."""

from __future__ import annotations

__all__ = ["Classical", "labels_only", "valued"]

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pretune.tasks.base import Prediction

Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Classical:
    """A method without a neural network.

    Attributes:
        title: What it is, for people.
        predict: From training records, their labels, test records and a seed to one prediction a test record.
    """

    title: str
    predict: Callable[[Sequence[Record], Sequence[Any], Sequence[Record], int], list[Prediction]]


def valued(values: Iterable[float]) -> list[Prediction]:
    """Predictions of a regression."""
    return [{"value": float(v)} for v in values]


def labels_only(labels: Iterable[str]) -> list[Prediction]:
    """Predictions of a classifier that gives no probabilities."""
    return [{"label": str(label)} for label in labels]
