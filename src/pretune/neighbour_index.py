"""RUN/neighbours: the vectors of labelled and of unlabelled records, what they are of, and what is unlike them.

RUN/neighbours/vectors.safetensors   ``labelled`` and ``pool`` (records, width), unit length; ``held_out``
RUN/neighbours/labelled.jsonl        a line a vector: file, row, what shows the record, its label
RUN/neighbours/pool.jsonl            the same without labels
RUN/neighbours/facts.json            fingerprint of the encoder, sources, thresholds; without it there is no index
"""

from __future__ import annotations

__all__ = ["FOLDER", "Index", "Shown", "command_for"]

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pretune.embedding import model_fingerprint, unit
from pretune.errors import RunError
from pretune.nearest import Nearest
from pretune.novelty import Novelty, kth_distances

FOLDER = "neighbours"

Shown: TypeAlias = dict[str, Any]
"""One line of labelled.jsonl or pool.jsonl."""

Vectors: TypeAlias = NDArray[np.float32]


def command_for(run: Path | str) -> str:
    """What to type to have an index."""
    return f"pretune index {run}"


@dataclass(frozen=True)
class Index:
    """Vectors of a run's labelled data and of its unlabelled pool.

    Attributes:
        labelled: Unit vectors.
        pool: Unit vectors.
        held: Distances of held-out records of the pool to their k-th neighbour in it, in rising order.
        records: What shows the records of ``labelled`` and of ``pool``, a line a vector.
        facts: As in facts.json.
    """

    labelled: Vectors
    pool: Vectors
    held: NDArray[np.float64]
    records: Mapping[str, Sequence[Shown]]
    facts: dict[str, Any] = field(default_factory=dict)

    def save(self, run: Path) -> Path:
        """Writes RUN/neighbours in place of an earlier one; a kill leaves the earlier one, or none."""
        folder, temporary = run / FOLDER, run / f"{FOLDER}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        vectors = {"labelled": self.labelled, "pool": self.pool, "held_out": self.held}
        save_file({k: np.ascontiguousarray(v) for k, v in vectors.items()}, temporary / "vectors.safetensors")
        for name, rows in self.records.items():
            lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
            (temporary / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        (temporary / "facts.json").write_text(json.dumps(self.facts, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        return folder

    @classmethod
    def load(cls, run: str | Path) -> Index:
        """The index of a run.

        Raises:
            RunError: There is none, it is damaged, or the run's model is another one than it was made with.
        """
        folder = Path(run) / FOLDER
        if not (folder / "facts.json").is_file():
            raise RunError(f'"{run}" has no index of neighbours; make one: {command_for(run)}')
        try:
            facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
            tensors = load_file(folder / "vectors.safetensors")
            records = {name: _lines(folder / f"{name}.jsonl") for name in ("labelled", "pool")}
            found = cls(tensors["labelled"], tensors["pool"], tensors["held_out"], records, facts)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise RunError(f'"{folder}" is damaged ({error}); make it again: {command_for(run)} --overwrite') from error
        if facts["encoder"] != model_fingerprint(Path(run) / "model"):
            raise RunError(
                f'The model of "{run}" is not the one that "{folder}" was made with; make it again: '
                f"{command_for(run)} --overwrite"
            )
        return found

    @cached_property
    def near_labelled(self) -> Nearest:
        """To look among the labelled records."""
        return Nearest(self.labelled)

    @cached_property
    def near_pool(self) -> Nearest:
        """To look among the pool."""
        return Nearest(self.pool)

    @cached_property
    def novelty(self) -> Novelty:
        """What is unlike the pool.

        Raises:
            RunError: The index has no pool.
        """
        run = self.facts.get("run", "RUN")
        if not len(self.held):
            raise RunError(
                f"The index of neighbours has no unlabelled pool to compare with; make one that has: "
                f"{command_for(run)} --pool DATA --overwrite"
            )
        return Novelty(self.held, int(self.facts["k"]), float(self.facts["share"]))

    def unlikeness(self, vectors: Vectors) -> list[dict[str, Any]]:
        """For each vector of the encoder, how far it is from the pool; see `Novelty.judge`."""
        novelty = self.novelty
        return novelty.judge(kth_distances(self.near_pool, unit(vectors), novelty.k))


def _lines(file: Path) -> list[Shown]:
    with file.open(encoding="utf-8", newline="\n") as stream:
        return [json.loads(line) for line in stream]
