"""The one evaluation loop, and held-out metrics with intervals, confusion matrix and calibration."""

from __future__ import annotations

__all__ = [
    "Calibration",
    "Confusion",
    "Evaluation",
    "binned",
    "buckets",
    "calibration",
    "confusion",
    "evaluate",
    "evaluating",
    "held_out",
    "judge",
    "predictions",
    "to_device",
]

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console, Group
from rich.table import Table
from torch import nn

from pretune.errors import DataError
from pretune.evenly_spaced import evenly_spaced
from pretune.intervals import LEVEL, RESAMPLES, Floats, Interval
from pretune.modalities.base import Batch, Example
from pretune.resampling import metric_intervals
from pretune.tasks.base import Prediction, Reliability, Task

if TYPE_CHECKING:
    from pretune.abstaining import Abstention
    from pretune.shifts import ShiftReport

_MEASURED = 64
"""Examples that are computed in both formats, to learn what rounding does to this model."""

_PADDED_LENGTH = 64
_ENOUGH, _SHORTER = 1024, 0.9
"""Padded elements from which on a batch is as fast as larger ones, and share of the longest that it need not pad to."""

_SHOWN_LABELS = 20


def predictions(
    task: Task, examples: Sequence[Example], *, batch_size: int = 64, precision: str = "fp32"
) -> list[Prediction]:
    """Predicts every example, longest first in batches of similar length; returns them in input order.

    Args:
        task: A task with its model.
        examples: Processed records, with or without labels.
        batch_size: Most examples in a batch; batches of long ones are smaller: at most 64 x `batch_size`
            padded elements, or one example.
        precision: ``fp32``, or ``bf16``: then batches run in bfloat16, and the examples whose answer rounding could
            change (`Task.lead`) once more in float32, so that the labels are the same; of a task without such leads
            (`Task.has_leads`) none.
    """
    found: list[Prediction] = [{}] * len(examples)
    left: Sequence[int] = range(len(examples))
    final = "fp32" if task.has_leads else precision
    with evaluating(task), torch.inference_mode():
        if final != precision and len(examples) >= _MEASURED * 4:
            left = _rounded(found, task, examples, batch_size)
        for places, logits, batch in _batches(task, examples, left, batch_size, final):
            _put(found, task.decode, examples, places, logits, batch)
    return found


def held_out(task: Task, examples: Sequence[Example], *, batch_size: int = 64) -> list[Prediction]:
    """`Task.held_out` of every example, in input order."""
    found: list[Prediction] = [{}] * len(examples)
    with evaluating(task), torch.inference_mode():
        for places, logits, batch in _batches(task, examples, range(len(examples)), batch_size):
            _put(found, task.held_out, examples, places, logits, batch)
    return found


def _rounded(found: list[Prediction], task: Task, examples: Sequence[Example], batch_size: int) -> list[int]:
    """Predicts in bfloat16; returns the examples whose answer rounding could have changed.

    Where that is most of them, as with a tag for each of many words, rounding saves nothing: the rest is returned too.
    """
    margin = _margin(task, examples, batch_size)
    done: list[int] = []
    doubtful: list[int] = []
    for places, logits, batch in _batches(task, examples, range(len(examples)), batch_size, "bf16"):
        _put(found, task.decode, examples, places, logits, batch)
        done += places
        doubtful += [
            place for place, safe in zip(places, (task.lead(logits) > margin).tolist(), strict=True) if not safe
        ]
        if 2 * len(doubtful) > len(done):
            break
    return [*doubtful, *sorted(set(range(len(examples))).difference(done))]


def _margin(task: Task, examples: Sequence[Example], batch_size: int) -> float:
    """Three times the most that bfloat16 moves a lead in some examples of all lengths."""
    order = sorted(range(len(examples)), key=lambda i: task.modality.length(examples[i]))
    some = evenly_spaced(order, _MEASURED)
    pairs = zip(*(_batches(task, examples, some, batch_size, way) for way in ("bf16", "fp32")), strict=True)
    return 3 * max(float(task.moved(rough, exact).max()) for (_, rough, _), (_, exact, _) in pairs)


def _batches(
    task: Task, examples: Sequence[Example], wanted: Sequence[int], batch_size: int, precision: str = "fp32"
) -> Iterator[tuple[list[int], torch.Tensor, Batch]]:
    """Batches of similar length: the places of their examples, logits, and what the model was given."""
    for chosen in buckets([task.modality.length(examples[i]) for i in wanted], batch_size):
        places = [wanted[i] for i in chosen]
        yield places, *_logits(task, [examples[i] for i in places], precision)


def _put(
    found: list[Prediction],
    decode: Callable[[torch.Tensor, Batch, Sequence[Example]], list[Prediction]],
    examples: Sequence[Example],
    places: Sequence[int],
    logits: torch.Tensor,
    batch: Batch,
) -> None:
    for place, prediction in zip(places, decode(logits, batch, [examples[i] for i in places]), strict=True):
        found[place] = prediction


def _logits(task: Task, members: Sequence[Example], precision: str) -> tuple[torch.Tensor, Batch]:
    """Mean logits of the views of some examples, and the batch of their first view."""
    batches = [to_device(task.collate(view), task.device) for view in task.modality.views(members)]
    with torch.autocast(task.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = [task(batch)["logits"].float() for batch in batches]
    return (logits[0] if len(logits) == 1 else torch.stack(logits).mean(0)), batches[0]


def buckets(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Indices of batches of similar length, longest first, so that too little memory shows at once.

    Long records are padded little: a batch of them that is large enough ends where the next are much shorter.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist()
    start = 0
    while start < len(order):
        longest = max(1, lengths[order[start]])
        cut = _SHORTER * longest
        size = max(1, min(batch_size, batch_size * _PADDED_LENGTH // longest, len(order) - start))
        while longest > _PADDED_LENGTH and size * longest > _ENOUGH and lengths[order[start + size - 1]] < cut:
            size -= 1
        yield order[start : start + size]
        start += size


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside; each submodule's own mode again after it."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for member, training in modes:
            member.training = training


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


@dataclass(frozen=True)
class Confusion:
    """Counts of (true, predicted) label pairs."""

    labels: list[str]
    counts: list[list[int]]
    """One row a true label, one column a predicted one."""

    def plot(self, file: str | Path) -> Path:
        """Writes the matrix as a picture: shade is the share of the row, the number is the count."""
        from pretune.plots import confusion_picture

        return confusion_picture(self.labels, np.asarray(self.counts), Path(file))


@dataclass(frozen=True)
class Calibration:
    """Whether a probability of 0.8 is right 80% of the time (Guo et al. 2017)."""

    ece: float
    """Expected calibration error: mean gap between confidence and accuracy, weighted by bin."""
    bins: list[dict[str, float]]
    """Non-empty bins of equal width: ``low``, ``high``, ``count``, ``confidence``, ``accuracy``."""
    of: str = "records"
    """What has a probability."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics on held-out records, with what is needed to judge them."""

    metrics: dict[str, float]
    intervals: dict[str, Interval]
    num_records: int
    level: float
    confusion: Confusion | None = None
    calibration: Calibration | None = None
    calibrated: Calibration | None = None
    """`calibration` with the temperature of the run, where it is calibrated."""
    abstention: Abstention | None = None
    shift: ShiftReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    def render(self) -> Group:
        """Tables for the terminal."""
        parts: list[Any] = [self._metric_table()]
        if self.confusion is not None:
            parts.append(_confusion_table(self.confusion))
        if self.calibration is not None:
            cooled = "" if self.calibrated is None else f"; {self.calibrated.ece:.3f} with the run's temperature"
            of = f"; {self.calibration.of}" if self.calibration.of != "records" else ""
            parts.append(f"Expected calibration error: {self.calibration.ece:.3f} (15 bins; 0 is perfect{of}){cooled}")
        parts += [part.table() for part in (self.abstention, self.shift) if part is not None]
        return Group(*parts)

    def print(self) -> None:
        """Prints `render` to the terminal."""
        Console().print(self.render())

    def _metric_table(self) -> Table:
        resamples = sorted({i.n for i in self.intervals.values()})
        counts = "-".join(f"{n:,}" for n in dict.fromkeys((resamples[0], resamples[-1]))) if resamples else "no"
        table = Table(caption=f"{self.num_records:,} records; percentile bootstrap, {counts} resamples")
        table.add_column("metric")
        table.add_column("value", justify="right")
        table.add_column(f"{self.level:.0%} interval", justify="right")
        for name, value in self.metrics.items():
            interval = self.intervals.get(name)
            table.add_row(name, f"{value:.4f}", f"{interval.low:.4f} – {interval.high:.4f}" if interval else "")
        return table


def evaluate(
    task: Task,
    examples: Sequence[Example],
    labels: Sequence[Any],
    *,
    batch_size: int = 64,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Predicts held-out examples and scores them: `predictions`, then `judge`."""
    found = predictions(task, examples, batch_size=batch_size)
    return judge(task, found, labels, level=level, resamples=resamples, seed=seed)


def judge(
    task: Task,
    predicted: Sequence[Prediction],
    labels: Sequence[Any],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Scores predictions against raw labels.

    Args:
        task: Defines the metrics.
        predicted: From `predictions`, one a record.
        labels: Raw labels in the same order, as `Task.metrics` takes them.
        level: Coverage of the intervals.
        resamples: Bootstrap resamples; metrics that are slow to compute get fewer; the number is reported.
        seed: Of the resampling.

    Raises:
        DataError: No records, or not one label a prediction.
    """
    if len(predicted) != len(labels) or not len(labels):
        raise DataError(f"evaluate needs a label a prediction, found {len(labels)} and {len(predicted)}.")
    metrics = task.metrics(predicted, labels)
    intervals = metric_intervals(task, predicted, labels, metrics, level=level, resamples=resamples, seed=seed)
    single = _single_labels(predicted, labels)
    known = list(predicted[0]["probabilities"]) if single else []
    matrix = confusion(predicted, labels, known) if single else None
    sure = calibration(predicted, labels) if single else _believed(task.reliability(predicted, labels))
    return Evaluation(metrics, intervals, len(labels), level, matrix, sure)


def _believed(found: Reliability | None) -> Calibration | None:
    if found is None or not len(found[1]):
        return None
    return replace(binned(np.asarray(found[1], np.float64), np.asarray(found[2], np.float64)), of=found[0])


def _single_labels(predicted: Sequence[Prediction], labels: Sequence[Any]) -> bool:
    first = predicted[0]
    return (
        isinstance(first.get("label"), str)
        and isinstance(first.get("probabilities"), dict)
        and all(isinstance(label, str | int | bool) for label in labels)
    )


def confusion(predicted: Sequence[Prediction], labels: Sequence[Any], known: Sequence[str]) -> Confusion:
    """Counts (true, predicted) pairs; labels in the order of `known`, then others as they come."""
    true, found = [str(label) for label in labels], [str(p["label"]) for p in predicted]
    names = list(dict.fromkeys([*known, *true, *found]))
    place = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, ([place[t] for t in true], [place[f] for f in found]), 1)
    return Confusion(names, counts.tolist())


def calibration(predicted: Sequence[Prediction], labels: Sequence[Any], num_bins: int = 15) -> Calibration:
    """Expected calibration error of the predicted label's probability, in equal-width bins open below."""
    confidence = np.array([p["probabilities"][p["label"]] for p in predicted], np.float64)
    right = np.array([str(p["label"]) == str(label) for p, label in zip(predicted, labels, strict=True)], float)
    return binned(confidence, right, num_bins)


def binned(confidence: Floats, right: Floats, num_bins: int = 15) -> Calibration:
    """Expected calibration error of probabilities, shape (n,), that came true (1) or not (0), shape (n,)."""
    place = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    bins, ece = [], 0.0
    for b in np.unique(place):
        inside = place == b
        sure, accuracy = float(confidence[inside].mean()), float(right[inside].mean())
        ece += float(inside.mean()) * abs(sure - accuracy)
        edges = {"low": b / num_bins, "high": (b + 1) / num_bins}
        bins.append({**edges, "count": int(inside.sum()), "confidence": sure, "accuracy": accuracy})
    return Calibration(ece, bins)


def _confusion_table(matrix: Confusion) -> Table | str:
    if len(matrix.labels) > _SHOWN_LABELS:
        return f"Confusion matrix: {len(matrix.labels)} labels; see the picture or the JSON."
    table = Table("true \\ predicted", title="confusion matrix")
    for name in matrix.labels:
        table.add_column(name, justify="right")
    for i, (name, row) in enumerate(zip(matrix.labels, matrix.counts, strict=True)):
        cells = [f"[bold green]{n}[/]" if i == j else (str(n) if n else "[dim]·[/]") for j, n in enumerate(row)]
        table.add_row(name, *cells)
    return table
