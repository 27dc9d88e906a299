"""A finished run, ready to predict: any size of input, in order, one output row for every input row."""

from __future__ import annotations

__all__ = ["Predictor", "load", "task_of"]

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pretune import encoder, machine, registry
from pretune.checkpoint import lineage_of
from pretune.columns import check_roles, preferring
from pretune.data import stream_records
from pretune.errors import DataError, ModelError, PretuneError, RunError, similar
from pretune.evaluation import predictions
from pretune.limits import check_numbers
from pretune.modalities.base import Example, Modality
from pretune.objectives.base import require_kind
from pretune.run_calibration import finisher
from pretune.sources import Source
from pretune.tasks.base import Prediction, Task
from pretune.unlike_pool import UnlikePool

CHUNK = 2048
"""Records that are read, sorted into length buckets and predicted together."""


class Predictor:
    """A fine-tuned task with its model and modality, in eval mode."""

    def __init__(self, task: Task, *, path: Path | None = None, precision: str = "fp32") -> None:
        self.task = task
        self.path = path
        self.precision = precision
        task.eval()
        task.model.eval()

    @property
    def modality(self) -> Modality:
        """What turns records into model inputs."""
        return self.task.modality

    def predict(
        self,
        records: Source,
        *,
        columns: Mapping[str, str] | None = None,
        batch_size: int | None = None,
        abstain: float | None = None,
        calibrated: bool = False,
    ) -> list[Prediction]:
        """Predicts every record of a list, DataFrame, data set or file; see `stream`."""
        rows = self.stream(records, columns=columns, batch_size=batch_size, abstain=abstain, calibrated=calibrated)
        return list(rows)

    def stream(
        self,
        source: Source,
        *,
        columns: Mapping[str, str] | None = None,
        batch_size: int | None = None,
        chunk: int = CHUNK,
        files: str | Path | None = None,
        abstain: float | None = None,
        calibrated: bool = False,
        ood: bool = False,
    ) -> Iterator[Prediction]:
        """Predicts records one after the other, in input order, in memory that does not grow with the input.

        Args:
            source: Path, ``-`` for standard input, Hub name, list of str or dict, DataFrame or Dataset.
            columns: Column of a role where the usual names do not fit, e.g. ``{"text": "review"}``.
            batch_size: Most records in one run of the model; not given: 64, and up to 256 pictures of under 64 pixels.
            chunk: Records that are sorted by length together.
            files: A folder for what the task can also write: drawn boxes, masks.
            abstain: Adds the set of answers that holds the true one with this probability, and gives no answer where
                it is not one answer; of a run with a calibration.json. Computed in float32.
            calibrated: Whether probabilities get the temperature of calibration.json.
            ood: Also say how far each record is from the pre-training data; needs `pretune index`.

        Yields:
            One JSON-able prediction a row; a row that cannot be used gives ``{"error", "row"}`` in its place.

        Raises:
            RunError: `abstain` or `calibrated`, and the run is not calibrated.
            DataError: The source as a whole cannot be used.
        """
        check_numbers({"batch_size": batch_size})
        together = batch_size or self.modality.together
        check_roles(columns, list(self.roles))
        finish = finisher(self.task, self.path, abstain=abstain, calibrated=calibrated)
        precision = self.precision if finish is None else "fp32"
        unlike = UnlikePool(self.task, self.path) if ood else None
        data = self.task.source(source)
        rows = stream_records(data, roles=self.roles, columns=columns or {}, required=self.required)
        opened = contextlib.nullcontext() if files is None else self.task.writer(Path(files))
        with opened as write:
            while part := list(itertools.islice(rows, chunk)):
                found = self._predict_rows(part, together, precision, unlike)
                for (record, _), prediction in zip(part, found, strict=True):
                    if finish is not None:
                        prediction = finish(prediction)
                    if write is not None and record is not None and "error" not in prediction:
                        write(record, prediction)
                    yield prediction

    @property
    def roles(self) -> dict[str, Sequence[str]]:
        """Input roles, and those that name a record, and the usual column names of each."""
        return preferring({**self.modality.names, **self.task.input_roles(self.modality)}, self.task.named)

    @property
    def required(self) -> list[str]:
        """Roles that every row must have; none where a task takes words or text and checks itself."""
        if {"tokens", "text"} <= self.roles.keys():
            return []
        return [r for r in self.task.required_roles(self.modality) if r != self.task.label_role]

    def _predict_rows(
        self,
        rows: Sequence[tuple[Any, Exception | None]],
        batch_size: int,
        precision: str,
        unlike: UnlikePool | None,
    ) -> Iterator[Prediction]:
        done: list[Prediction] = [{}] * len(rows)
        usable = [(i, record) for i, (record, error) in enumerate(rows) if error is None]
        for i, (_, error) in enumerate(rows):
            if error is not None:
                done[i] = {"error": str(error), "row": getattr(error, "row", None)}
        examples = self._process([record for _, record in usable])
        good: list[tuple[int, Example]] = []
        origins: list[dict[str, Any]] = []
        for (i, record), example in zip(usable, examples, strict=True):
            if isinstance(example, PretuneError):
                done[i] = {
                    "error": f"{record['_file']}, row {record['_row']}: {example}",
                    "row": record["_row"],
                }
            else:
                good.append((i, example))
                origins.append(self.modality.origin(record))
        found = predictions(self.task, [e for _, e in good], batch_size=batch_size, precision=precision)
        more = [{} for _ in good] if unlike is None else unlike([rows[i][0] for i, _ in good])
        for (i, _), origin, prediction, said in zip(good, origins, found, more, strict=True):
            done[i] = origin | prediction | said
        yield from done

    def _process(self, records: Sequence[Mapping[str, Any]]) -> Sequence[Example | PretuneError]:
        """Examples, or the error of a record; together, and one by one only when one of them is bad."""
        if not records:
            return []
        try:
            return self.task.process(records)
        except DataError:
            return [self._process_one(record) for record in records]

    def _process_one(self, record: Mapping[str, Any]) -> Example | PretuneError:
        try:
            return self.task.process([record])[0]
        except DataError as error:
            return error


def load(run: str | Path, *, precision: str | None = None, task: Mapping[str, Any] | None = None) -> Predictor:
    """Restores the task of a finished run.

    Args:
        run: A run directory that `pretune finetune` wrote.
        precision: ``fp32`` or ``bf16``; not given: bf16 where the hardware is faster in it and the task gives labels.
            Either gives the same labels; bf16 probabilities differ by up to some thousandths. Numbers, boxes, masks,
            transcripts and maps are computed in bf16 only where it is asked for, and are then as exact as it is.
        task: Options of its task that prediction reads, other than it was trained with: ``{"decoder": "beam"}``.

    Raises:
        ConfigError: Training alone reads such an option, or it cannot have that value.
        RunError: There is no such run, or it is not a finished fine-tuning run.
        ModelError: Its weights are missing, damaged or incomplete.
    """
    path = Path(run)
    recipe = _recipe(path)
    found: Task = registry.build("task", recipe["task"])
    if task:
        found.change(task)
    modality: Modality = registry.build("modality", recipe.get("modality", "text"))
    require_kind(found, modality, [type(found)])
    folder = path / "model"
    if not (folder / "config.json").is_file():
        raise RunError(f'"{run}" has no finished model (model/config.json); let its fine-tuning end, or run it again.')
    modality.load(str(folder))
    model, report = encoder.make(found.auto_class_for(modality.kind), path)
    if report.new:
        raise ModelError(
            f'The weights in "{folder}" lack {len(report.new)} of {report.num_tensors} tensors '
            f"(first: {report.new[0]}); copy or train the run again."
        )
    machine.keep_freed_memory()
    machine.fast_model(model)
    found.restore(model, modality)
    found.used = lineage_of(path).get("roles", [])
    found.named = recipe.get("columns") or {}
    found.to(machine.device())
    if precision is None and not found.has_leads:
        precision = "fp32"
    numbers = machine.precision_for(machine.device(), precision)
    return Predictor(found, path=path, precision=numbers)


def task_of(run: str) -> str:
    """The name of the task that a run was trained for.

    Raises:
        RunError: It is not a fine-tuning run.
    """
    task = _recipe(Path(run))["task"]
    return str(task["name"] if isinstance(task, dict) else task)


def _recipe(path: Path) -> dict[str, Any]:
    file = path / "recipe.yaml"
    if not file.is_file():
        what = "has no recipe.yaml" if path.is_dir() else "does not exist"
        inner = (path.parent / "recipe.yaml").is_file()
        hint = f' Did you mean "{path.parent}"?' if inner else "" if path.is_dir() else similar(path)
        raise RunError(f'"{path}" {what}; give a run directory that "pretune finetune" wrote.{hint}')
    try:
        recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f'"{file}" is not readable YAML ({str(error).partition(chr(10))[0]}).') from error
    if not isinstance(recipe, dict) or "task" not in recipe:
        raise RunError(f'"{path}" is not a fine-tuning run: its recipe names no task; give one of "pretune finetune".')
    return recipe
