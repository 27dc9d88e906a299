"""What explanations are about: words of a text, patches of a picture, cells of a sound; each can be hidden."""

from __future__ import annotations

__all__ = ["Pieces"]

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from pretune.evaluation import to_device
from pretune.explanation import Explanation
from pretune.modalities.base import Batch
from pretune.perturbing import per_pass, variant_logits
from pretune.tasks.base import Task


class Pieces(ABC):
    """The pieces of one record."""

    noun: ClassVar[str]
    """What they are called, in the plural."""

    batch: Batch
    """The one row that the model reads."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def merged(self, scores: Tensor) -> list[float]:
        """Sums of an explainer's scores over each piece."""

    @abstractmethod
    def hiding(self, task: Task, hidden: Sequence[frozenset[int]]) -> Tensor:
        """The model's main input with each of these sets of pieces hidden, (variants, ...)."""

    @abstractmethod
    def explanation(self, scores: Tensor | None, **common: Any) -> Explanation:
        """The explanation of this record; without scores, one that has nothing to show."""

    def answers(self, task: Task, hidden: Sequence[frozenset[int]], of: object) -> list[float]:
        """The target's probability (or value) with each set of pieces hidden.

        Some variants at a time: hundreds of long recordings or large pictures would not fit into memory.
        """
        size = per_pass(task, self.batch)
        parts = (hidden[i : i + size] for i in range(0, len(hidden), size))
        return [answer for part in parts for answer in self._answers(task, part, of)]

    def _answers(self, task: Task, hidden: Sequence[frozenset[int]], of: object) -> list[float]:
        with torch.inference_mode(), task.narrowed(of):
            batch = to_device(self.batch, task.device)
            logits = variant_logits(task, batch, self.hiding(task, hidden).to(task.device))
            return task.answer(logits, batch, of=of).double().cpu().tolist()
