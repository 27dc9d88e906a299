"""`suspects`: labels that are probably wrong, by confident learning on cross-validated probabilities."""

from __future__ import annotations

__all__ = ["Suspect", "SuspectReport", "suspects", "suspects_command"]

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pretune import data as data_io
from pretune import registry
from pretune.checkpoint import write_text
from pretune.errors import ConfigError, DataError, RunError, shortened
from pretune.label_doubts import Doubt
from pretune.labelled_examples import processed, raw_labels
from pretune.limits import check_numbers
from pretune.memory_rows import dataset_rows
from pretune.modalities.base import Modality
from pretune.objectives.base import require_kind
from pretune.out_of_fold import by_baseline, by_probe, by_training, parts_of
from pretune.pretraining import prepare
from pretune.progress import say
from pretune.tasks.base import Task
from pretune.tasks.classification import Classification

_SHOWN = 20
_WIDTH = 60


@dataclass(frozen=True)
class Suspect:
    """A record whose label is probably wrong.

    Attributes:
        file: Where it is.
        row: 1-based.
        given: Its label; several joined by the separator; of tags and boxes the doubted one.
        suggested: What models that had not seen it say.
        confidence: Their probability of that (several labels: of the label that they deny or add most surely).
        given_probability: Their probability of the label that it has (several labels: of the doubted one; of values:
            the quality of the label, from 0 to 1; of boxes 1 - confidence).
        input: The text or path, shortened.
    """

    file: str
    row: int
    given: str
    suggested: str
    confidence: float
    given_probability: float
    input: str


@dataclass(frozen=True)
class SuspectReport:
    """Suspects, the surest first.

    Attributes:
        num_records: All that were looked at.
        metric: The task's primary one.
        score: Its value for the cross-validated predictions, against the labels as given: what the suspicion rests on.
        rows: The most doubtful first.
    """

    num_records: int
    metric: str
    score: float
    rows: list[Suspect]

    def to_csv(self) -> str:
        """A table with one row a suspect and the fields of `Suspect` as columns."""
        file = io.StringIO()
        writer = csv.DictWriter(file, [f.name for f in fields(Suspect)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(s).items()}
                         for s in self.rows)  # fmt: skip
        return file.getvalue()

    def print(self, console: Console | None = None) -> None:
        """The first 20 as a table, and how many there are."""
        out = console or Console(highlight=False)
        table = Table("file, row", "input", "given", "suggested", "confidence")
        for s in self.rows[:_SHOWN]:
            place = f"{Path(s.file).name}, {s.row}"
            table.add_row(*map(escape, (place, s.input, s.given, s.suggested, f"{s.confidence:.2f}")))
        if self.rows:
            out.print(table)
        more = f"; the first {_SHOWN} are shown" if len(self.rows) > _SHOWN else ""
        out.print(
            f"{len(self.rows):,} of {self.num_records:,} labels are doubted ({len(self.rows) / self.num_records:.1%})"
            f"{more}. Held-out predictions reach {self.metric} {self.score:.3f} against the labels as given: the lower "
            "that is, the more of these are hard rather than wrong. Look at each before you change it.",
            soft_wrap=True,
        )


def suspects(
    data: Any,
    *,
    task: str | dict[str, Any] | Task = "classification",
    modality: str | dict[str, Any] | Modality = "text",
    from_: str | None = None,
    columns: Mapping[str, str] | None = None,
    folds: int = 5,
    budget: str | None = None,
    seed: int = 0,
) -> SuspectReport:
    """Finds labels that are probably wrong, by confident learning (Northcutt, Jiang & Chuang 2021; cleanlab).

    Every record is predicted by a model that was trained without its fold. Where such a model is surer of another
    class than it usually is of that class's own records, the label is doubted; so are words with tags. Values are
    doubted that are outliers among the residuals, and images where a surely found box is missing or of another class.

    Args:
        data: Labelled file, folder, Hub name, list of dicts, DataFrame or Dataset.
        task: classification, also with several labels a record; tagging, regression or detection.
        modality: What the data is.
        from_: A run, model directory or Hub name. For classification its encoder is probed, frozen, and without it
            there is the classical baseline; for other tasks it is fine-tuned.
        columns: Column of each role, where the usual names do not fit, e.g. ``{"text": "review"}``.
        folds: Parts of the cross-validation.
        budget: Of each training, where the task is not classification; not given: 10epochs.
        seed: Of the folds and of what is trained.

    Raises:
        ConfigError: A task whose labels cannot be looked through.
        DataError: Data that cannot be read, or too few records.
    """
    check_numbers({"folds": folds, "seed": seed})
    method, source = registry.build("task", task), registry.build("modality", modality)
    require_kind(method, source, registry.classes("task"))
    _check(method, from_, budget)
    method.check(source)
    method.modality = source
    roles = method.input_roles(source) | {method.label_role: method.label_columns}
    wanted = method.required_roles(source)
    records = data_io.read_records(method.source(data), roles=roles, columns=dict(columns or {}), required=wanted)
    labels = raw_labels(records, method)
    method.learn_labels(labels)
    if len(labels) < 2 * folds:
        raise DataError(f"{folds} folds need {2 * folds} labelled records or more, found {len(labels)}.")
    parts = parts_of(labels if isinstance(method, Classification) else [0] * len(labels), folds, seed)
    if from_ is None:
        found = by_baseline(source, list(dataset_rows(records)), labels, parts, seed)
    else:
        prepare(source, records, from_, None)
        method.check(source)  # again: a checkpoint has a tokenizer of its own
        examples = processed(records, method, source, learn=True).examples
        if isinstance(method, Classification):
            found = by_probe(method, source, examples, parts, from_, seed)
        else:
            found = by_training(method, source, examples, parts, from_, budget or "10epochs", seed)
    score = float(method.metrics(found, labels)[method.primary])
    rows = [_suspect(d, records[d.record], method) for d in method.doubts(found, labels)]
    return SuspectReport(len(labels), method.primary, score, rows)


def _check(task: Task, from_: str | None, budget: str | None) -> None:
    if isinstance(task, Classification):
        if budget is not None:
            raise ConfigError("--budget has no effect for classification, whose encoder stays frozen; leave it out.")
        if task.multi_label and from_ is None:
            raise ConfigError("With several labels a record there is no baseline; give a model with --from.")
        return
    if not task.can_doubt:
        able: dict[str, Any] = {name: registry.find("task", name) for name in registry.names("task")}
        known = ", ".join(n for n, c in able.items() if c.can_doubt)
        raise ConfigError(f"Labels of {task.name} cannot be looked through, only those of {known}.")
    if from_ is None:
        raise ConfigError(f"For {task.name} a model is fine-tuned in each fold; name one with --from.")


def _suspect(doubt: Doubt, row: Mapping[str, Any], task: Task) -> Suspect:
    shown = " | ".join(_short(row[r]) for r in task.input_roles(task.modality) if row.get(r) is not None)
    facts = asdict(doubt)
    facts.pop("record")
    return Suspect(row["_file"], row["_row"], **facts, input=shown)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("path") or "given as data"
    text = " ".join(map(str, value) if isinstance(value, list | tuple) else str(value).split())
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def suspects_command(
    data: str,
    *,
    task: str | dict[str, Any] | Task = "classification",
    modality: str | dict[str, Any] | Modality = "text",
    from_: str | None = None,
    columns: Mapping[str, str] | None = None,
    folds: int = 5,
    budget: str | None = None,
    seed: int = 0,
    out: str | None = None,
    overwrite: bool = False,
) -> int:
    """Finds labels that are probably wrong, by confident learning on cross-validated predictions.

    Args:
        data: Labelled file, folder or Hub name.
        task: What the labels are.
        modality: What the data is.
        from_: A run, model directory or Hub name; for classification its encoder is probed, frozen (not given: the
            classical baseline), for other tasks it is fine-tuned.
        columns: Column of each role, where the usual names do not fit.
        folds: Parts of the cross-validation.
        budget: Of each training, where the task is not classification; not given: 10epochs.
        seed: Of the folds and of what is trained.
        out: A .csv file of all suspects to write.
        overwrite: Replace an earlier file.
    """
    if out is not None:
        _check_out(Path(out), overwrite)
    elif overwrite:
        raise ConfigError("--overwrite is for --out; leave it out, or name a file.")
    found = suspects(
        data, task=task, modality=modality, from_=from_, columns=columns, folds=folds, budget=budget, seed=seed
    )
    found.print()
    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(out), found.to_csv())
        say(f"wrote {out}")
    return 0


def _check_out(file: Path, overwrite: bool) -> None:
    if file.suffix != ".csv":
        raise ConfigError(f"--out ends with .csv; found {shortened(str(file))}.")
    if file.is_dir():
        raise ConfigError(f'--out is the file to write; found the folder "{file}".')
    if file.exists() and not overwrite:
        raise RunError(f'"{file}" exists; give another --out, or --overwrite to replace it.')
