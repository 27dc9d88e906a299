"""`suspects`: labels that are probably wrong, by confident learning on cross-validated probabilities."""

from __future__ import annotations

__all__ = ["Suspect", "SuspectReport", "suspects", "suspects_command"]

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pretune import data as data_io
from pretune import registry
from pretune.checkpoint import write_text
from pretune.errors import ConfigError, DataError, RunError, shortened
from pretune.limits import check_numbers
from pretune.modalities.base import Modality
from pretune.objectives.base import require_kind
from pretune.out_of_fold import by_baseline, by_probe, parts_of
from pretune.pretraining import prepare
from pretune.progress import say
from pretune.tasks.base import Prediction, Task
from pretune.tasks.classification import Classification

_SHOWN = 20
_WIDTH = 60


@dataclass(frozen=True)
class Suspect:
    """A record whose label is probably wrong.

    Attributes:
        file: Where it is.
        row: 1-based.
        given: Its label; several joined by the separator.
        suggested: What models that had not seen it say.
        confidence: Their probability of that (several labels: of the label that they deny or add most surely).
        given_probability: Their probability of the label that it has (several labels: of the doubted one).
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
        accuracy: Of the cross-validated predictions, against the labels as given: what the suspicion rests on.
        rows: Sorted by the probability of the given label, lowest first.
    """

    num_records: int
    accuracy: float
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
            f"{more}. Held-out predictions agree with {self.accuracy:.1%} of the labels: the lower that is, the more "
            "of these are hard rather than wrong. Look at each before you change it.",
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
    seed: int = 0,
) -> SuspectReport:
    """Finds labels that are probably wrong, by confident learning (Northcutt, Jiang & Chuang 2021; cleanlab).

    Every record is predicted by a model that was trained without its fold. Where such a model is surer of another
    class than it usually is of that class's own records, the label is doubted.

    Args:
        data: Labelled file, folder, Hub name, list of dicts, DataFrame or Dataset.
        task: classification, also with several labels a record.
        modality: What the data is.
        from_: A run, model directory or Hub name whose encoder is probed, frozen; not given: the classical baseline.
        columns: Column of each role, where the usual names do not fit, e.g. ``{"text": "review"}``.
        folds: Parts of the cross-validation.
        seed: Of the folds and of what is trained.

    Raises:
        ConfigError: A task without one class, or several, a record.
        DataError: Data that cannot be read, or too few records.
    """
    check_numbers({"folds": folds, "seed": seed})
    method, source = registry.build("task", task), registry.build("modality", modality)
    require_kind(method, source, registry.classes("task"))
    if not isinstance(method, Classification):
        raise ConfigError(f"Labels of {method.name} cannot be looked through yet, only those of classification.")
    if method.multi_label and from_ is None:
        raise ConfigError("With several labels a record there is no baseline; give a model with --from.")
    method.modality = source
    roles = method.input_roles(source) | {method.label_role: method.label_columns}
    wanted = method.required_roles(source)
    records = data_io.read_records(method.source(data), roles=roles, columns=dict(columns or {}), required=wanted)
    labels = [method.read_label(r, method.label_role) for r in records]
    method.learn_labels(labels)
    if len(labels) < 2 * folds:
        raise DataError(f"{folds} folds need {2 * folds} labelled records or more, found {len(labels)}.")
    parts = parts_of(labels, folds, seed)
    rows = [dict(r) for r in records]
    if from_ is None:
        found = by_baseline(source, rows, labels, parts, seed)
    else:
        prepare(source, records, from_, None)
        examples = [method.labelled(e, y) for e, y in zip(method.process(rows), labels, strict=True)]
        found = by_probe(method, source, examples, parts, from_, seed)
    return _report(method, source, rows, labels, found)


def _report(
    task: Classification,
    source: Modality,
    rows: Sequence[Mapping[str, Any]],
    labels: list[Any],
    found: list[Prediction],
) -> SuspectReport:
    names = task.labels
    # a class of few records may be absent from a fold's training data: then it has no probability
    p = np.array([[f["probabilities"].get(n, 0.0) for n in names] for f in found], np.float64)
    doubted = doubtful(labels, names, p, several=task.multi_label)
    right = task.metrics(found, labels)["accuracy"]
    return SuspectReport(len(labels), right, [_suspect(task, source, rows[i], labels[i], p[i]) for i in doubted])


def doubtful(
    labels: Sequence[Any], names: Sequence[str], probabilities: NDArray[np.float64], *, several: bool = False
) -> list[int]:
    """Positions of labels that confident learning prunes, the least probable label first.

    Args:
        labels: One name a record, or a list of them.
        names: Of the columns of `probabilities`.
        probabilities: Out-of-sample, shape (records, classes).
        several: Whether a record has a list of labels.
    """
    place = {name: i for i, name in enumerate(names)}
    if several:
        from cleanlab.multilabel_classification.filter import find_label_issues as find_several

        numbers: Any = [[place[n] for n in label] for label in labels]
        found = find_several(numbers, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    else:
        from cleanlab.filter import find_label_issues

        numbers = np.array([place[label] for label in labels])
        found = find_label_issues(numbers, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    return [int(i) for i in found]


def _suspect(
    task: Classification, source: Modality, row: Mapping[str, Any], label: Any, p: NDArray[np.float64]
) -> Suspect:
    names = task.labels
    if task.multi_label:
        wrong = np.abs(np.isin(names, label) - p)
        given, sure = task.separator.join(label), float(wrong.max())
        suggested = task.separator.join(n for n, v in zip(names, p, strict=True) if v >= 0.5)
        doubted = 1 - sure
    else:
        best = int(np.where(np.array(names) == label, -1.0, p).argmax())
        given, suggested, sure, doubted = label, names[best], float(p[best]), float(p[names.index(label)])
    shown = " | ".join(_short(row[r]) for r in task.input_roles(source) if row.get(r) is not None)
    return Suspect(row["_file"], row["_row"], given, suggested, sure, doubted, shown)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("path") or "given as data"
    text = " ".join(str(value).split())
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def suspects_command(
    data: str,
    *,
    task: str | dict[str, Any] | Task = "classification",
    modality: str | dict[str, Any] | Modality = "text",
    from_: str | None = None,
    columns: Mapping[str, str] | None = None,
    folds: int = 5,
    seed: int = 0,
    out: str | None = None,
    overwrite: bool = False,
) -> int:
    """Finds labels that are probably wrong, by confident learning on cross-validated predictions.

    Args:
        data: Labelled file, folder or Hub name.
        task: What the labels are.
        modality: What the data is.
        from_: A run, model directory or Hub name whose encoder is probed, frozen; not given: the classical baseline.
        columns: Column of each role, where the usual names do not fit.
        folds: Parts of the cross-validation.
        seed: Of the folds and of what is trained.
        out: A .csv file of all suspects to write.
        overwrite: Replace an earlier file.
    """
    if out is not None:
        _check_out(Path(out), overwrite)
    elif overwrite:
        raise ConfigError("--overwrite is for --out; leave it out, or name a file.")
    found = suspects(data, task=task, modality=modality, from_=from_, columns=columns, folds=folds, seed=seed)
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
