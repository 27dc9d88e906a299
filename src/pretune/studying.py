"""`study`: was the pre-training worth it, and how should it be fine-tuned? Paired arms, few labels, many seeds."""

from __future__ import annotations

__all__ = ["Study", "study"]

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from rich.console import Console

from pretune import registry
from pretune.budget import Budget
from pretune.classical import Classical
from pretune.embedding import model_fingerprint
from pretune.encoder import model_folder
from pretune.errors import ConfigError, DataError
from pretune.finetuning import parts_of
from pretune.label_draws import label_numbers
from pretune.labelled_examples import placed, raw_labels
from pretune.limits import check_numbers
from pretune.lineage import warn_if_unlearnt
from pretune.memory_rows import dataset_rows
from pretune.modalities.base import Modality
from pretune.objectives.base import require_kind
from pretune.pretraining import check_model, fingerprints, prepare, recipe_of, refuse_changed
from pretune.progress import say
from pretune.study_arms import Arm, arms_of
from pretune.study_cells import Plan
from pretune.study_conclusions import Conclusions
from pretune.study_course import Clock, Course
from pretune.study_facts import study_facts
from pretune.study_folder import StudyFolder
from pretune.study_pictures import write_pictures
from pretune.study_tables import render
from pretune.tasks.base import Task
from pretune.tasks.classification import Classification
from pretune.train import check_options

_LOWER_IS_BETTER = ("wer", "cer", "mae", "mse", "rmse", "rmsd")


@dataclass(frozen=True)
class Study:
    """A study's conclusions so far.

    Attributes:
        path: Its folder.
        facts: What study.json holds.
        conclusions: The same, as objects.
        arms: What was compared.
        missing: Cells that were not measured, because `max_time` was over.
    """

    path: Path
    facts: dict[str, Any]
    conclusions: Conclusions
    arms: list[Arm]
    missing: int

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        return self.conclusions.verdicts[0]

    def print(self) -> None:
        """Tables and sentences for the terminal."""
        console = Console()
        console.print(render(self.conclusions, self.arms, metric=self.facts["metric"], level=self.facts["level"]))
        for sentence in self.conclusions.verdicts:
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)
        say(f"wrote {self.path / 'study.json'}")


def study(
    data: Any,
    *,
    out: str,
    from_: str,
    task: str | dict[str, Any] | Task = "classification",
    modality: str | dict[str, Any] | Modality = "text",
    strategies: str | Sequence[Any] = "full,freeze,l2sp",
    also: str | Sequence[str] = (),
    baseline: bool = True,
    labels: str | Sequence[Any] | None = None,
    test: Any = None,
    test_rate: float | None = None,
    columns: Mapping[str, str] | None = None,
    metric: str | None = None,
    budget: str = "10epochs",
    min_steps: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    seeds: int = 5,
    max_seeds: int = 10,
    level: float = 0.95,
    margin: float = 0.01,
    max_time: str | None = None,
    overwrite: bool = False,
) -> Study:
    """Says with intervals whether pre-training was worth it, and which strategy to fine-tune it with.

    Every arm gets the same labels, the same steps and the same test records: random weights, the pre-training in
    question with each strategy, further checkpoints, a classical baseline. Nothing is held out for validation: the last
    weights are scored. Finished cells are kept; the same command goes on, and adds arms, numbers of labels and seeds.

    Args:
        data: Labelled data to draw labels from: file, folder, Hub name, list of dicts, DataFrame or Dataset.
        out: The folder to write.
        from_: The pre-training in question: a run, a model directory or a Hub name.
        task: What the labels are; `pretune list` names them.
        modality: What the data is.
        strategies: Of fine-tuning, with commas (or a list in Python); the first answers the main question.
        also: Further checkpoints to compare with, with commas, each as SOURCE or NAME=SOURCE.
        baseline: Also the classical method of the modality (TF-IDF, pixels and gradients, MFCC, k-mers).
        labels: How many labels to try, as 16,64,all; all is every record that is not for the test; not given: all, and
            16, 64 and 256 where there are more and one of every class fits.
        test: Labelled test data; not given: a part of `data`.
        test_rate: Share of `data` held out when `test` is not given; not given: 0.3.
        columns: Column of each role, where the usual names do not fit; ``group`` as in `finetune`.
        metric: What is compared, the higher the better; not given: the task's primary metric.
        budget: Of each fine-tuning: 10epochs, 500steps.
        min_steps: Least steps for a budget in epochs; not given: 200.
        batch_size: Examples in an optimiser step.
        seed: First seed, and that of the split.
        seeds: Draws of labels that every arm gets.
        max_seeds: Draws where the main question is not settled after `seeds`; the claims account for the second look.
        level: Of the intervals, and of all claims that answer one question together.
        margin: Differences within it (0.01: a point) do not matter.
        max_time: Stop before the cell that would end later, e.g. 30m.
        overwrite: Replace an earlier study in `out`.

    Raises:
        PretuneError: In one sentence, what is wrong with the data, an option, a checkpoint or the folder.
    """
    given = dict(locals())
    clock = Clock(max_time)
    _check(given)
    method: Task = registry.build("task", task)
    source: Modality = registry.build("modality", modality)
    arms, classical = _arms(given, method, source)
    plan = _plan(given, method, source, classical)
    numbers = label_numbers(labels, plan.draw_from)
    for checkpoint in dict.fromkeys(a.source for a in arms if a.source is not None):
        prepare(registry.build("modality", source.spec()), plan.pool, checkpoint, None)  # finds what cannot read it
        warn_if_unlearnt(checkpoint)
    folder = StudyFolder(out)
    folder.open(_recipe(given, arms, method, source), overwrite=overwrite)
    first, more = ([seed + k for k in range(n)] for n in (seeds, max_seeds))
    course = Course(folder, plan, arms, numbers, first, more[seeds:], level, margin, clock)
    missing = course.run()
    found = course.conclusions()
    shown = next((c["metric"] for c in folder.cells.values()), method.primary)
    facts = study_facts(
        folder.cells, found, arms, task=method, source=source, metric=shown, num_test=len(plan.test), level=level,
        missing=missing, pictures=write_pictures(folder.path, found, arms, shown), command=_command(given),
    )  # fmt: skip
    folder.conclude(facts)
    return Study(folder.path, facts, found, arms, missing)


def _check(given: Mapping[str, Any]) -> None:
    check_options(given["budget"], given["batch_size"], {})
    check_numbers({**given, "min_steps": given["min_steps"]})
    unit = Budget.parse(given["budget"]).unit
    if unit not in ("epochs", "steps"):
        raise ConfigError(
            f"The budget of a study is in epochs or steps, so that every arm gets the same; found {given['budget']}."
        )
    if given["min_steps"] is not None and unit != "epochs":
        raise ConfigError(
            f"min_steps is for a budget in epochs; with {given['budget']} it has no effect: leave it out."
        )
    if given["seeds"] < 2 or given["max_seeds"] < given["seeds"]:
        raise ConfigError(
            f"A study needs 2 seeds or more, and max_seeds no smaller; found {given['seeds']} and {given['max_seeds']}."
        )
    if given["test"] is not None and given["test_rate"] is not None:
        raise ConfigError("test_rate has no effect with --test, which is the test data; leave one of them out.")
    if given["metric"] in _LOWER_IS_BETTER:
        raise ConfigError(
            f"A study compares what is better the higher it is; choose another metric than {given['metric']}."
        )
    if not 0 <= given["margin"] < 1:
        raise ConfigError(f"margin must be at least 0 and below 1, found {given['margin']}.")


def _arms(given: Mapping[str, Any], method: Task, source: Modality) -> tuple[list[Arm], Classical | None]:
    """What is compared, and the classical baseline, if there is one."""
    require_kind(method, source, registry.classes("task"))
    method.check(source)
    check_model(source, given["from_"], None, None)
    refuse_changed(source, source.unlabelled, "on labelled data")
    classical = source.baseline(method)
    if given["baseline"] and classical is None:
        say(f"there is no classical baseline for {method.name} on {source.name}: the study goes without")
    also = given["also"]
    checkpoints = [s.strip() for s in also.split(",") if s.strip()] if isinstance(also, str) else list(also)
    arms = arms_of(given["from_"], given["strategies"], checkpoints, classical, baseline=given["baseline"])
    return arms, classical


def _plan(given: Mapping[str, Any], method: Task, source: Modality, classical: Classical | None) -> Plan:
    """The records to draw labels from and those to test on.

    Raises:
        DataError: Too few of these.
    """
    method.modality = source
    test, rate = given["test"], 0.3 if given["test_rate"] is None else given["test_rate"]
    rate, columns = 0.0 if test is not None else rate, dict(given["columns"] or {})
    pool, held, tested = parts_of(given["data"], None, test, rate, method, source, columns, given["seed"])
    records = held if test is None else tested
    if len(records) < 2:
        raise DataError(f"A study needs test records, found {len(records)}; give --test with more of them.")
    labels, tested_labels = raw_labels(pool, method), raw_labels(records, method)
    _check_labels(registry.build("task", method.spec()), labels, records, tested_labels)
    return Plan(
        task=method.spec(),
        modality=source.spec(),
        used=list(method.used),
        pool=pool,
        pool_labels=labels,
        test=records,
        test_labels=tested_labels,
        metric=given["metric"],
        budget=given["budget"],
        min_steps=given["min_steps"],
        batch_size=given["batch_size"],
        classical=classical,
    )


def _check_labels(task: Task, labels: Sequence[Any], tested: Dataset, tested_labels: Sequence[Any]) -> None:
    """Raises DataError where a class of the test records is none of the others."""
    if isinstance(task, Classification):
        task.learn_labels(labels)
        places = dataset_rows(tested.select_columns(["_file", "_row"]))
        for place, label in zip(places, tested_labels, strict=True):
            with placed(place):
                task.labelled({}, label)


def _recipe(given: Mapping[str, Any], arms: Sequence[Arm], task: Task, source: Modality) -> dict[str, Any]:
    sources = {k: given[k] for k in ("data", "test")}
    plain = dict(given) | {"also": given["also"] if isinstance(given["also"], str) else ",".join(given["also"])}
    recipe = recipe_of(plain, "study", **sources, task=task, modality=source, loop={})
    contents = fingerprints(data=task.source(given["data"]), test=task.source(given["test"]))
    return recipe | {"content": contents, "arms": {a.name: a.to_dict() | _weights(a.source) for a in arms}}


def _weights(source: str | None) -> dict[str, str]:
    """A hash of the model, so that a study does not go on with another one of the same name."""
    if source is None or not Path(model_folder(source)).is_dir():
        return {}
    return {"weights": model_fingerprint(Path(model_folder(source)))}


def _command(given: Mapping[str, Any]) -> str:
    """The command line, where it was one; else the Python call in short."""
    if sys.argv and sys.argv[0].endswith(("pretune", "__main__.py")) and sys.argv[1:2] == ["study"]:
        return shlex.join(["pretune", *sys.argv[1:]])
    return f"pretune.study(..., from_={given['from_']!r}, out={given['out']!r})"
