"""`predict --ood`: how far each record is from what the encoder was pre-trained on."""

from __future__ import annotations

__all__ = ["UnlikePool"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pretune.embedding import Embedder
from pretune.errors import RunError
from pretune.neighbour_index import Index
from pretune.tasks.base import Prediction, Task


class UnlikePool:
    """Records to what their predictions say of the pool: ``{"unlike_pool": {"distance", "p", "flagged"}}``.

    Args:
        task: Restored.
        run: Where its index is.

    Raises:
        RunError: There is no index, it has no pool, or it is of another model.
    """

    def __init__(self, task: Task, run: Path | None) -> None:
        if run is None:
            raise RunError("The index of neighbours is kept beside a run; load it by its path.")
        self._index, self._embedder = Index.load(run), Embedder.of(task)
        self._novelty = self._index.novelty

    def __call__(self, records: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """One entry a record."""
        if not records:
            return []
        return [{"unlike_pool": found} for found in self._index.unlikeness(self._embedder.records(records))]
