"""What is measured at the validations of pre-training: held-out loss, collapse, and the vote of labelled neighbours."""

from __future__ import annotations

__all__ = ["HeldOut", "check_probe", "read_probe"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretune import data as data_io
from pretune import registry
from pretune.errors import ConfigError, DataError
from pretune.evenly_spaced import evenly_spaced
from pretune.modalities.base import Corpus, Example, Modality
from pretune.objectives.base import Objective
from pretune.representation import effective_rank, neighbour_accuracy, spread

_PROBED, _PART = 2000, 64

_WITH_VECTORS = ("pixels", "waveform")
"""Kinds whose objectives offer vectors (`Objective.embeddings`)."""

Probe = tuple[list[Example], list[str]]


@dataclass(frozen=True)
class HeldOut:
    """Validates an objective on a fixed part of the held-out corpus, with fixed noise.

    Attributes:
        method: Set up.
        corpus: Held-out data.
        seed: Of the noise.
        probe: Labelled examples and their labels, for the neighbours.
    """

    method: Objective
    corpus: Corpus
    seed: int
    probe: Probe | None = None

    def __call__(self) -> dict[str, float]:
        """Means of every logged value; where the objective offers vectors, their effective rank and spread."""
        self.method.eval()
        self.method.scale = {}
        examples = evenly_spaced(self.method.examples(self.corpus, seed=self.seed), self.method.num_held_out)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(self.seed)
            found = self._losses(examples)
            vectors = self.method.embeddings(examples)
            if vectors is not None and len(vectors) > 1:
                found |= {"effective_rank": effective_rank(vectors), "spread": spread(vectors)}
            if self.probe is not None:
                found["knn_accuracy"] = self._neighbours(*self.probe)
        return found

    def _losses(self, examples: Sequence[Example]) -> dict[str, float]:
        device = next(self.method.parameters()).device
        rows: list[dict[str, float]] = []
        for k, part in enumerate(np.array_split(np.arange(len(examples)), max(1, len(examples) // _PART))):
            if len(part):
                batch = self.method.collate([examples[i] for i in part], np.random.default_rng([self.seed, k]))
                outputs = self.method({n: v.to(device) for n, v in batch.items()})
                rows.append({n: float(v) for n, v in outputs.items() if v.ndim == 0})
        return {n: float(np.mean([r[n] for r in rows])) for n in rows[0]} if rows else {}

    def _neighbours(self, examples: Sequence[Example], labels: list[str]) -> float:
        parts = [self.method.embeddings(examples[i : i + 256]) for i in range(0, len(examples), 256)]
        vectors: list[Tensor] = [p.cpu() for p in parts if p is not None]
        return neighbour_accuracy(torch.cat(vectors), labels)


def check_probe(source: Modality) -> None:
    """Raises ConfigError where objectives offer no vectors to look for neighbours with."""
    if source.kind not in _WITH_VECTORS:
        raise ConfigError(
            f"--probe needs {' or '.join(_WITH_VECTORS)}, and {source.name} data is {source.kind}; leave it out."
        )


def read_probe(data: Any, source: Modality, columns: dict[str, str]) -> Probe:
    """Reads at most 2,000 labelled records, evenly spread.

    Raises:
        DataError: Data that cannot be read, or with fewer than two labels.
    """
    task: Any = registry.find("task", "classification")
    roles = dict(source.inputs) | {"label": task.label_columns}
    records = data_io.read_records(data, roles=roles, columns=columns, required=(next(iter(source.inputs)), "label"))
    rows: list[Any] = evenly_spaced(records, _PROBED)
    labels = [str(r["label"]) for r in rows]
    if len(set(labels)) < 2:
        raise DataError(f"The probe needs records of at least two labels; found {len(rows)} of {len(set(labels))}.")
    return source.process_many(rows), labels
