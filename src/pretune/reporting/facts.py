"""All that sections may say something about, read or computed once."""

from __future__ import annotations

__all__ = ["Facts", "gather"]

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pretune.check_report import CheckReport
from pretune.checks import check
from pretune.columns import check_roles
from pretune.errors import PretuneError, RunError
from pretune.predicting import Predictor, load
from pretune.progress import say
from pretune.reporting.measured import Measured, measure
from pretune.reporting.records import Room
from pretune.reporting.stages import Stage, name_of, parents_of, read_stage


@dataclass
class Facts:
    """What a report is about.

    Attributes:
        path: The folder that was named.
        stage: The run; None for a study alone.
        parents: The runs that it was made from, nearest first.
        study: study.json, as a mapping; None without a study.
        study_path: Its folder.
        num_explained: Most predictions that are explained.
        data: The path of the training data, where it still is what it was.
        checked: What `check` found in it; a sentence where it could not look; None where the data is not there.
        measured: Results on test data, with examples; None where there is none.
        unmeasured: Why not, in a sentence.
        predictor: Of a fine-tuned run.
        room: For pictures and sound.
    """

    path: Path
    stage: Stage | None = None
    parents: list[Stage] = field(default_factory=list)
    study: Mapping[str, Any] | None = None
    study_path: Path | None = None
    num_explained: int = 6
    data: str | None = None
    checked: CheckReport | str | None = None
    measured: Measured | None = None
    unmeasured: str = ""
    predictor: Predictor | None = None
    room: Room = field(default_factory=Room)

    @cached_property
    def stored(self) -> Mapping[str, Any] | None:
        """The results that fine-tuning itself left in test.json."""
        found = self.stage.json("test.json") if self.stage else None
        return found if isinstance(found, dict) and "metrics" in found else None

    def json(self, name: str) -> Mapping[str, Any] | None:
        """A JSON file of the run that holds a mapping."""
        found = self.stage.json(name) if self.stage else None
        return found if isinstance(found, dict) else None


def gather(
    run: str,
    *,
    test: Any = None,
    study: str | None = None,
    columns: Mapping[str, str] | None = None,
    num_explained: int = 6,
) -> Facts:
    """Reads a run or a study, checks its data, and measures it on test data.

    Raises:
        PretuneError: In one sentence, what is wrong with the run, the study or the test data.
    """
    path = Path(run)
    if (path / "study.json").is_file():
        if test is not None or study is not None or columns:
            raise RunError(f'"{run}" is a study, which has its own test data; leave --test, --study and columns out.')
        return Facts(path, study=read_study(path), study_path=path)
    stage = read_stage(path)
    facts = Facts(path, stage, parents_of(stage), num_explained=num_explained)
    if study is not None:
        facts.study, facts.study_path = _study_of(stage, study), Path(study)
    facts.data = stage.data("train")
    if not stage.tuned:
        if test is not None:
            raise RunError(f'"{run}" is a pre-trained run, which has no labels to test; leave --test out.')
        facts.checked = _checked(facts, None)
        return facts
    facts.predictor = load(path)
    own = {k: v for k, v in (stage.recipe.get("columns") or {}).items() if k != "group"}
    named = dict(own if columns is None else columns)
    check_roles(named, [*facts.predictor.roles, facts.predictor.task.label_role])
    where = stage.data("test") if test is None else test
    facts.unmeasured = _unmeasured(stage) if where is None else ""
    if where is not None:
        name = where if isinstance(where, str) else "data in memory"
        say(f"testing on {name}")
        facts.measured = measure(facts.predictor, where, named, name=name)
    facts.checked = _checked(facts, where)
    return facts


def read_study(folder: Path) -> Mapping[str, Any]:
    """study.json of a folder.

    Raises:
        RunError: There is none, or it is damaged.
    """
    file = folder / "study.json"
    if not file.is_file():
        raise RunError(f'"{folder}" has no study.json; give a folder that "pretune study" wrote.')
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f'"{file}" is damaged ({error}); run the study again, which keeps what is done.') from error
    if not isinstance(found, dict):
        raise RunError(f'"{file}" holds no study; give a folder that "pretune study" wrote.')
    return found


def _unmeasured(stage: Stage) -> str:
    given = stage.recipe.get("test")
    if given is None:
        return "The run names no test data: give --test to see held-out results with examples."
    return f"The test data ({given}) is no longer there, or has other content, so no examples can be shown."


def _study_of(stage: Stage, study: str | Path) -> Mapping[str, Any]:
    """The facts of a study, which must be of the run's kind of data and labels."""
    found = read_study(Path(study))
    own = {"modality": stage.modality} | ({"task": name_of(stage.recipe["task"])} if stage.tuned else {})
    for what, name in own.items():
        if found.get(what, name) != name:
            raise RunError(f'"{study}" is a study of {found[what]}, and {stage.path} a run of {name}; give its study.')
    return found


def _checked(facts: Facts, test: Any) -> CheckReport | str | None:
    stage = facts.stage
    if facts.data is None or stage is None:
        return None
    say(f"checking {facts.data}")
    recipe = stage.recipe
    boundary = (recipe.get("modality") or {}).get("boundary", "line") if not stage.tuned else "line"
    try:
        return check(
            facts.data,
            task=name_of(recipe["task"]) if stage.tuned else None,
            test=test if isinstance(test, str) else None,
            columns={k: v for k, v in (recipe.get("columns") or {}).items() if k != "group"},
            modality=stage.modality,
            **({"boundary": boundary} if stage.modality == "text" else {}),
        )
    except PretuneError as error:
        return str(error)
