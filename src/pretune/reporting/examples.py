"""Which of any number of predictions are shown: a few of each sort, found while they stream by."""

from __future__ import annotations

__all__ = ["SCORED", "Example", "Examples", "sort_of", "wrongness"]

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pretune.tag_schemes import to_iob2
from pretune.tasks.base import Prediction, Task

SCORED = 2000
"""Records that are judged one by one where that takes a task's whole metric; the first ones of the test data."""


@dataclass(frozen=True)
class Example:
    """A test record with its label and its prediction, and how wrong that is."""

    record: Mapping[str, Any]
    label: Any
    prediction: Prediction
    wrong: float


@dataclass
class Examples:
    """The first few of each sort, by priority.

    Attributes:
        most: Kept of each sort.
    """

    most: int = 6
    _heaps: dict[Any, list[tuple[float, int, Example]]] = field(default_factory=dict)
    _count: Any = field(default_factory=itertools.count)

    def offer(self, sort: Any, priority: float, example: Example) -> None:
        """Keeps it if its priority is among the highest of its sort; the earlier one where they are equal."""
        heap = self._heaps.setdefault(sort, [])
        item = (priority, -next(self._count), example)
        if len(heap) < self.most:
            heapq.heappush(heap, item)
        else:
            heapq.heappushpop(heap, item)

    def of(self, sort: Any) -> list[Example]:
        """Highest priority first."""
        return [item[2] for item in sorted(self._heaps.get(sort, []), key=lambda item: item[:2], reverse=True)]

    @property
    def sorts(self) -> list[Any]:
        """All that there are."""
        return list(self._heaps)


def sort_of(prediction: Prediction, label: Any) -> tuple[str, str] | None:
    """The cell of the confusion matrix, (true, predicted); None where there is no such matrix."""
    if isinstance(prediction.get("label"), str) and "probabilities" in prediction:
        return str(label), prediction["label"]
    return None


def wrongness(task: Task, prediction: Prediction, label: Any) -> float:
    """How wrong a prediction is: 0 is right; of classes, the probability that was given to the wrong answer."""
    if (cell := sort_of(prediction, label)) is not None:
        return float(prediction["probabilities"][cell[1]]) if cell[0] != cell[1] else 0.0
    if "labels" in prediction:
        p, named = prediction["probabilities"], set(task.read_label({"label": label}, "label"))
        return sum(1 - v if name in named else v for name, v in p.items() if (name in named) != (v >= 0.5))
    if "value" in prediction:
        return abs(prediction["value"] - float(label))
    if "tags" in prediction:
        truth = to_iob2(label) if getattr(task, "entities", False) else label
        return float(sum(a != b for a, b in zip(truth, prediction["tags"], strict=True)))
    return 1 - task.metrics([prediction], [label])[task.primary]
