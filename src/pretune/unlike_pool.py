"""`predict --ood`: how unlike each record is what the encoder was pre-trained on."""

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
    """Records to what their predictions say of the pool: ``unlike_pool``, as `Novelty.judge` gives it.

    Args:
        task: Restored.
        run: Where its index is.

    Raises:
        RunError: There is no index, it has no pool, or it is of another model.
    """

    def __init__(self, task: Task, run: Path | None) -> None:
        if run is None:
            raise RunError("The index of neighbours is kept beside a run; load it by its path.")
        self._unlike, self._embedder = Index.load(run).unlike, Embedder.of(task)

    def __call__(self, records: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """One entry a record."""
        examples = self._embedder.modality.process_many(records) if records else []
        return [{"unlike_pool": found} for found in self._unlike.judge(self._embedder, examples)]
