"""The runs that a report is about: the run itself and those that it was made from, as their files tell."""

from __future__ import annotations

__all__ = ["Stage", "found_data", "name_of", "parents_of", "places", "read_stage"]

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pretune import registry
from pretune.checkpoint import RunDirectory
from pretune.errors import RunError, similar
from pretune.run_data import why_changed

_MOST_PARENTS = 10


@dataclass(frozen=True)
class Stage:
    """One run.

    Attributes:
        path: Its folder.
        recipe: recipe.yaml.
        lineage: lineage.json.
        rows: metrics.jsonl.
    """

    path: Path
    recipe: dict[str, Any]
    lineage: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def tuned(self) -> bool:
        """Whether it was fine-tuned."""
        return self.recipe.get("verb") == "finetune"

    @property
    def modality(self) -> str:
        """The name of its modality."""
        return name_of(self.recipe.get("modality", "text"))

    @property
    def source(self) -> str | None:
        """The run or checkpoint that its weights are from; None from random weights."""
        if self.lineage.get("scratch"):
            return None
        return (self.lineage.get("parent") or {}).get("source")

    @property
    def counted(self) -> str:
        """What was counted while it trained."""
        return str(registry.build("modality", self.modality).counted)

    def json(self, name: str) -> Any:
        """What a JSON file of the run holds; None without the file, or where it is damaged."""
        file = self.path / name
        try:
            return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        except (json.JSONDecodeError, UnicodeDecodeError):
            return None

    def data(self, role: str) -> str | None:
        """The path of the data of a role (train, valid, test) where its content is what it was; else None."""
        source = registry.build("task", self.recipe["task"]).source if self.tuned else None
        written = self.recipe.get("data" if role == "train" else role)
        return found_data(self.path, written, self.lineage["data"].get(role), source)


def name_of(spec: Any) -> str:
    """The name in a specification of a method."""
    if isinstance(spec, list):
        return "+".join(map(name_of, spec))
    return str(spec["name"]) if isinstance(spec, Mapping) else str(spec)


def read_stage(path: Path) -> Stage:
    """Reads a finished run.

    Raises:
        RunError: It is none, it is not finished, or its files are damaged.
    """
    recipe, lineage = path / "recipe.yaml", path / "lineage.json"
    if not recipe.is_file():
        what = "has no recipe.yaml or study.json" if path.is_dir() else "does not exist"
        raise RunError(
            f'"{path}" {what}; give a folder that "pretune pretrain", "finetune" or "study" wrote.'
            + ("" if path.is_dir() else similar(path))
        )
    if not lineage.is_file():
        raise RunError(
            f'"{path}" has not finished (it has no lineage.json): repeat its command, which goes on where it stopped.'
        )
    try:
        found = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        facts = json.loads(lineage.read_text(encoding="utf-8"))
        rows = RunDirectory(path).metrics()
    except (yaml.YAMLError, ValueError) as error:
        raise RunError(f'"{path}" is damaged ({" ".join(str(error).split())}); copy or train it again.') from error
    if not isinstance(found, dict) or not isinstance(facts, dict) or "data" not in facts:
        raise RunError(f'"{path}" is not a pretune run; give a folder that pretune wrote.')
    return Stage(path, {"verb": facts.get("verb")} | found, facts, rows)


def parents_of(stage: Stage) -> list[Stage]:
    """The runs that it was made from, nearest first, as far as they still are what they were."""
    found: list[Stage] = []
    while stage.source is not None and len(found) < _MOST_PARENTS:
        known = stage.lineage["parent"]
        for folder in places(stage.path, stage.source):
            if not (folder / "lineage.json").is_file():
                continue
            try:
                stage = read_stage(folder)
            except RunError:
                return found
            break
        else:
            return found
        if stage.lineage.get("finished") != known.get("finished"):
            return found
        found.append(stage)
    return found


def places(run: Path, written: str) -> list[Path]:
    """Where a path of a recipe may be: as written, or from the folders above the run."""
    path = Path(written).expanduser()
    return [path] if path.is_absolute() else [path, *(folder / path for folder in run.resolve().parents)]


def found_data(run: Path, written: Any, expected: str | None, source: Any = None) -> str | None:
    """The path of a run's data where its content is still the same; None where it is not.

    Args:
        run: The run's folder.
        written: The path in its recipe.
        expected: The fingerprint in its lineage.
        source: `Task.source`, if there is a task.
    """
    if not isinstance(written, str) or expected is None:
        return None
    for place in places(run, written):
        if not why_changed(str(place), expected, source or (lambda given: given)):
            return str(place)
    return None
