"""RUN/neighbours: the vectors of labelled and of unlabelled records, what they are of, and what is unlike them.

RUN/neighbours/vectors.safetensors   ``labelled`` and ``pool`` (records, width), unit length
RUN/neighbours/novelty.safetensors   what is unlike the pool; absent without a pool
RUN/neighbours/labelled.jsonl        a line a vector: file, row, what shows the record, its label
RUN/neighbours/pool.jsonl            the same without labels
RUN/neighbours/facts.json            fingerprint of the encoder, sources; without it there is no index
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

from pretune.embedding import model_fingerprint
from pretune.errors import RunError
from pretune.nearest import Nearest
from pretune.novelty import LEAST
from pretune.pool_novelty import PoolNovelty

FOLDER = "neighbours"

FORM = 2
"""What facts.json calls the form of the folder; another one was written by another version."""

_NOVELTY = "novelty.safetensors"

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
        records: What shows the records of ``labelled`` and of ``pool``, a line a vector.
        facts: As in facts.json.
        novelty: What is unlike the pool; None where there is none, or one too small to say.
    """

    labelled: Vectors
    pool: Vectors
    records: Mapping[str, Sequence[Shown]]
    facts: dict[str, Any] = field(default_factory=dict)
    novelty: PoolNovelty | None = None

    def save(self, run: Path) -> Path:
        """Writes RUN/neighbours in place of an earlier one; a kill leaves the earlier one, or none."""
        folder, temporary = run / FOLDER, run / f"{FOLDER}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _save({"labelled": self.labelled, "pool": self.pool}, temporary / "vectors.safetensors")
        if self.novelty is not None:
            _save(self.novelty.tensors(), temporary / _NOVELTY)
        for name, rows in self.records.items():
            lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
            (temporary / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        facts = {"form": FORM, **self.facts}
        (temporary / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        return folder

    @classmethod
    def load(cls, run: str | Path) -> Index:
        """The index of a run.

        Raises:
            RunError: There is none, it is damaged or of another version, or the run's model is another one than it
                was made with.
        """
        folder = Path(run) / FOLDER
        if not (folder / "facts.json").is_file():
            raise RunError(f'"{run}" has no index of neighbours; make one: {command_for(run)}')
        again = f"make it again: {command_for(run)} --overwrite"
        try:
            facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
            if facts.get("form") != FORM:
                raise RunError(f'"{folder}" was made by another version of pretune, which measured otherwise; {again}')
            found = cls._read(folder, facts)
        except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
            raise RunError(f'"{folder}" is damaged ({error}); {again}') from error
        if facts["encoder"] != model_fingerprint(Path(run) / "model"):
            raise RunError(f'The model of "{run}" is not the one that "{folder}" was made with; {again}')
        return found

    @classmethod
    def _read(cls, folder: Path, facts: dict[str, Any]) -> Index:
        tensors = load_file(folder / "vectors.safetensors")
        records = {name: _lines(folder / f"{name}.jsonl") for name in ("labelled", "pool")}
        novelty = PoolNovelty.of(load_file(folder / _NOVELTY), facts["share"]) if facts["num_held_out"] else None
        return cls(tensors["labelled"], tensors["pool"], records, facts, novelty)

    @cached_property
    def near_labelled(self) -> Nearest:
        """To look among the labelled records."""
        return Nearest(self.labelled)

    @cached_property
    def near_pool(self) -> Nearest:
        """To look among the pool."""
        return Nearest(self.pool)

    @property
    def unlike(self) -> PoolNovelty:
        """What is unlike the pool.

        Raises:
            RunError: The index has no pool, or one that is too small.
        """
        if self.novelty is None and len(self.pool):
            raise RunError(
                f"The pool of the index has {len(self.pool)} records, and to say what is unlike them {LEAST} or more "
                f"are needed: {command_for(self.facts.get('run', 'RUN'))} --pool DATA --overwrite"
            )
        if self.novelty is None:
            raise RunError(
                f"The index of neighbours has no unlabelled pool to compare with; make one that has: "
                f"{command_for(self.facts.get('run', 'RUN'))} --pool DATA --overwrite"
            )
        return self.novelty


def _save(tensors: Mapping[str, NDArray[Any]], file: Path) -> None:
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, file)


def _lines(file: Path) -> list[Shown]:
    with file.open(encoding="utf-8", newline="\n") as stream:
        return [json.loads(line) for line in stream]
