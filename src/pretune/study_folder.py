"""The folder of a study: what its cells have in common, every finished cell, and the conclusions.

OUT/recipe.yaml      every option and the arms
OUT/cells.jsonl      one line a finished cell
OUT/study.json       conclusions, of the cells so far
OUT/*.png            pictures
"""

from __future__ import annotations

__all__ = ["PICTURES", "StudyFolder"]

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from pretune.checkpoint import write_text
from pretune.errors import RunError

Key: TypeAlias = tuple[str, int, int]
"""Arm, number of labels, seed."""

PICTURES = ("learning_curves.png", "differences.png", "cost.png")

_OWN = ("recipe.yaml", "cells.jsonl", "study.json", "report.html", *PICTURES)
_FREE = (
    "out",
    "overwrite",
    "labels",
    "seeds",
    "max_seeds",
    "max_time",
    "strategies",
    "also",
    "baseline",
    "level",
    "margin",
    "arms",
    "data",
    "test",
)
"""What may change when a study goes on: cells stay what they are. Data is known by its content."""


class StudyFolder:
    """Finished cells on disk.

    Args:
        path: The folder given as ``--out``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.cells: dict[Key, dict[str, Any]] = {}
        self._recipe_now: dict[str, Any] | None = None

    def open(self, recipe: Mapping[str, Any], *, overwrite: bool) -> None:
        """Reads the cells that an earlier run of the same study finished; what is there stays until a cell is added.

        Raises:
            RunError: It holds something else, or a study whose cells were measured otherwise.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, and a study is a folder; give another --out.")
        earlier = self._recipe()
        foreign = self.path.is_dir() and any(not f.name.startswith("working-") for f in self.path.iterdir())
        if earlier is None and foreign:
            raise RunError(f"{self.path} exists and is not a study; give another --out.")
        self._recipe_now = dict(recipe)
        if earlier is not None and not overwrite:
            self._read()
            if self.cells:
                self._refuse_changes(earlier, recipe)
                # cells of arms that are not asked for now stay, too
                self._recipe_now["arms"] = (earlier.get("arms") or {}) | recipe["arms"]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for left in self.path.glob("working-*"):
                shutil.rmtree(left, ignore_errors=True)
        except OSError as error:
            raise RunError(f"Cannot write into {self.path}: {error.strerror}; give another --out.") from error

    def _claim(self) -> None:
        """Writes the recipe, once there is something to keep; without cells to go on from, what was there goes."""
        if self._recipe_now is None:
            return
        if not self.cells:
            self._remove()
        write_text(self.path / "recipe.yaml", yaml.safe_dump(self._recipe_now, sort_keys=False, allow_unicode=True))
        self._recipe_now = None

    def add(self, key: Key, found: Mapping[str, Any]) -> None:
        """Keeps a cell; a kill at any moment loses at most this one."""
        self._claim()
        arm, number, seed = key
        with (self.path / "cells.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"arm": arm, "labels": number, "seed": seed, **found}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.cells[key] = dict(found)

    def conclude(self, facts: Mapping[str, Any]) -> None:
        """Writes study.json."""
        self._claim()
        write_text(self.path / "study.json", json.dumps(dict(facts), indent=2) + "\n")

    def _read(self) -> None:
        file = self.path / "cells.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):  # of a kill while it was written
            write_text(file, "".join(whole))
        for line in whole:
            row = json.loads(line)
            self.cells[row.pop("arm"), row.pop("labels"), row.pop("seed")] = row

    def _recipe(self) -> dict[str, Any] | None:
        file = self.path / "recipe.yaml"
        if not file.is_file():
            return None
        try:
            found = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            return None
        return found if isinstance(found, dict) and found.get("verb") == "study" else None

    def _refuse_changes(self, earlier: dict[str, Any], recipe: Mapping[str, Any]) -> None:
        now = yaml.safe_load(yaml.safe_dump(dict(recipe)))
        changed = [k for k in sorted(earlier.keys() | now.keys()) if k not in _FREE and earlier.get(k) != now.get(k)]
        before = earlier.get("arms") or {}
        arms = [n for n, spec in now["arms"].items() if n in before and before[n] != spec]
        if changed or arms:
            what = [f"{k} was {earlier.get(k)} and is now {now.get(k)}" for k in changed]
            what += [f"arm {n} was {before[n]} and is now {now['arms'][n]}" for n in arms]
            raise RunError(
                f"{self.path} holds a study that measured otherwise ({', '.join(what)}); repeat its command to go on, "
                "or give --overwrite or another --out."
            )

    def _remove(self) -> None:
        for name in _OWN:
            (self.path / name).unlink(missing_ok=True)
