"""Bootstrap intervals of a task's metrics over records: fast where sums say everything, plain elsewhere.

A metric that is known by its name is resampled from per-record sums, a thousand times in milliseconds, but
only when that formula reproduces the task's own value on the whole set; any other is recomputed by the task.
"""

from __future__ import annotations

__all__ = ["Scored", "metric_intervals", "scored"]

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pretune.intervals import LEVEL, RESAMPLES, Floats, Interval, percentile_interval, resampled_indices
from pretune.tag_schemes import spans_of, to_iob2
from pretune.tasks.base import Prediction, Task

_WORK = 300_000  # records that plain recomputation may go through: a few seconds with scikit-learn
_FEWEST, _MOST = 50, 300
_CELLS = 1_000_000

Statistic: TypeAlias = Callable[[Floats], Floats]
"""Sums over resampled records, shape (resamples, columns), to the metric of each resample."""


def metric_intervals(
    task: Task,
    predicted: Sequence[Prediction],
    labels: Sequence[Any],
    metrics: Mapping[str, float],
    *,
    level: float,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """The percentile interval of each metric over resampled records.

    Args:
        task: Defines the metrics.
        predicted: One prediction a record.
        labels: Raw labels, same order.
        metrics: ``task.metrics(predicted, labels)``.
        level: Coverage.
        resamples: Wanted number; metrics without a fast formula get fewer (50 to 300); each
            interval's ``n`` says how many.
        seed: Of the resampling.
    """
    columns, formulas = _sums(predicted, labels, set(metrics))
    exact = {n: f for n, f in formulas.items() if n in metrics and _agrees(f, columns, metrics[n])}
    found: dict[str, Interval] = {}
    if exact:
        sums = _resampled_sums(columns, resamples, seed)
        found = {n: percentile_interval(metrics[n], f(sums), level) for n, f in exact.items()}
    slow = [n for n in metrics if n not in found]
    if slow:
        found |= _plain(task, predicted, labels, {n: metrics[n] for n in slow}, level, resamples, seed)
    return {n: found[n] for n in metrics}


@dataclass(frozen=True)
class Scored:
    """A metric of one system.

    Attributes:
        value: On all records.
        draws: On resamples, shape (resamples,); NaN where the metric does not exist.
    """

    value: float
    draws: Floats

    def less(self, other: Scored, level: float = LEVEL) -> Interval:
        """The difference to a system that predicted the same records, resampled together."""
        return percentile_interval(self.value - other.value, self.draws - other.draws, level)


def scored(
    task: Task,
    predicted: Sequence[Prediction],
    labels: Sequence[Any],
    name: str,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scored:
    """One metric, also of the same resamples of the records for whatever system predicts them, so that they are paired.

    Args:
        task: Defines the metric.
        predicted: One prediction a record.
        labels: Raw labels, same order.
        name: Of the metric.
        resamples: Wanted number; a metric without a fast formula gets fewer (50 to 300), by the number of records.
        seed: Of the resampling.
    """
    columns, formulas = _sums(predicted, labels, {name})
    rng = np.random.default_rng(seed)
    shares = np.full(len(labels), 1 / len(labels))
    if name in formulas:
        value = task.metrics(predicted, labels)[name]
        if _agrees(formulas[name], columns, value):
            times = rng.multinomial(len(labels), shares, size=resamples)
            return Scored(value, formulas[name](times @ columns))
    score = task.rescored(predicted, labels)
    times = rng.multinomial(len(labels), shares, size=_affordable(len(labels), resamples))
    places = np.arange(len(labels))
    draws = [score(np.repeat(places, row).tolist()).get(name, math.nan) for row in times]
    return Scored(score(places.tolist()).get(name, math.nan), np.array(draws))


def _affordable(num_records: int, resamples: int) -> int:
    """How many resamples of a metric that is slow to compute."""
    return max(min(_FEWEST, resamples), min(resamples, _MOST, _WORK // num_records))


def _agrees(formula: Statistic, columns: Floats, value: float) -> bool:
    ours = float(formula(columns.sum(axis=0, keepdims=True))[0])
    return math.isclose(ours, value, rel_tol=1e-6, abs_tol=1e-9)


def _resampled_sums(columns: Floats, resamples: int, seed: int) -> Floats:
    """Sums of rows drawn with replacement, shape (resamples, columns).

    Equal rows are drawn together: which rows come how often is one multinomial draw over distinct rows.
    """
    rows, counts = np.unique(columns, axis=0, return_counts=True)
    if len(rows) * resamples <= 20 * _CELLS:
        rng = np.random.default_rng(seed)
        return rng.multinomial(len(columns), counts / len(columns), size=resamples) @ rows
    return np.concatenate([columns[i].sum(axis=1) for i in _small_blocks(len(columns), resamples, seed)])


def _small_blocks(size: int, resamples: int, seed: int) -> list[Any]:
    return [row[None] for block in resampled_indices(size, resamples, seed) for row in block]


def _plain(
    task: Task,
    predicted: Sequence[Prediction],
    labels: Sequence[Any],
    metrics: Mapping[str, float],
    level: float,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    times = _affordable(len(labels), resamples)
    score = task.rescored(predicted, labels)
    drawn = [score(row) for block in resampled_indices(len(labels), times, seed) for row in block.tolist()]
    return {n: percentile_interval(v, [d.get(n, math.nan) for d in drawn], level) for n, v in metrics.items()}


def _sums(
    predicted: Sequence[Prediction], labels: Sequence[Any], names: Set[str]
) -> tuple[Floats, dict[str, Statistic]]:
    first, label = predicted[0], labels[0]
    if isinstance(first.get("label"), str) and not isinstance(label, list | tuple | set):
        return _classified([str(p["label"]) for p in predicted], [str(t) for t in labels], np.arange(len(labels)))
    if isinstance(first.get("tags"), list | str) and isinstance(label, list | tuple | str):
        return _tagged([list(p["tags"]) for p in predicted], [list(row) for row in labels], names)
    if isinstance(first.get("value"), float) and isinstance(label, int | float):
        return _measured(np.array([p["value"] for p in predicted], float), np.array(labels, float))
    return np.zeros((len(labels), 1)), {}


def _classified(
    found: Sequence[str], true: Sequence[str], record: NDArray[np.int64]
) -> tuple[Floats, dict[str, Statistic]]:
    """Columns: right, all, then for each label: true positives, predicted, true; `record` is that of each answer."""
    place = {name: i for i, name in enumerate(sorted({*found, *true}))}
    f, t = (np.array([place[x] for x in side]) for side in (found, true))
    k, num = len(place), int(record[-1]) + 1
    formulas: dict[str, Statistic] = {"accuracy": lambda s: _ratio(s[:, 0], s[:, 1])}
    right = f == t
    sums = np.stack([np.bincount(record, weights, num) for weights in (right, None)], axis=1).astype(np.float64)
    if k * num > 30 * _CELLS:
        return sums, formulas
    pairs = ((record[right], f[right]), (record, f), (record, t))
    columns = np.hstack([sums, *(np.bincount(r * k + x, minlength=num * k).reshape(num, k) for r, x in pairs)])

    def parts(s: Floats) -> tuple[Floats, Floats, Floats]:
        return s[:, 2 : k + 2], s[:, k + 2 : 2 * k + 2], s[:, 2 * k + 2 :]

    def macro_f1(s: Floats) -> Floats:
        # as scikit-learn: the mean is over labels that occur among true or predicted ones
        both, predicted, actual = parts(s)
        f1 = _ratio(2 * both, predicted + actual)
        return _ratio(f1.sum(axis=1), (predicted + actual > 0).sum(axis=1))

    def balanced(s: Floats) -> Floats:
        both, _, actual = parts(s)
        return _ratio(_ratio(both, actual).sum(axis=1), (actual > 0).sum(axis=1))

    def mcc(s: Floats) -> Floats:
        _, predicted, actual = parts(s)
        c, n = s[:, 0], s[:, 1]
        top = c * n - (predicted * actual).sum(axis=1)
        return _ratio(top, np.sqrt((n**2 - (predicted**2).sum(axis=1)) * (n**2 - (actual**2).sum(axis=1))))

    return columns, formulas | {
        "macro_f1": macro_f1,
        "f1_macro": macro_f1,
        "balanced_accuracy": balanced,
        "mcc": mcc,
        "matthews": mcc,
    }


def _tagged(
    found: Sequence[Sequence[str]], true: Sequence[Sequence[str]], names: Set[str]
) -> tuple[Floats, dict[str, Statistic]]:
    """Of entities the columns right, predicted, true; of other tags those of `_classified`, summed over a record."""
    if not names & {"f1", "precision", "recall"}:
        record = np.repeat(np.arange(len(true)), [len(row) for row in true])
        return _classified([t for row in found for t in row], [t for row in true for t in row], record)
    pairs = [({*spans_of(mine)}, {*spans_of(to_iob2(theirs))}) for mine, theirs in zip(found, true, strict=True)]
    return np.array([(len(a & b), len(a), len(b)) for a, b in pairs], float), {
        "f1": lambda s: _ratio(2 * s[:, 0], s[:, 1] + s[:, 2]),
        "precision": lambda s: _ratio(s[:, 0], s[:, 1]),
        "recall": lambda s: _ratio(s[:, 0], s[:, 2]),
    }


def _measured(x: Floats, y: Floats) -> tuple[Floats, dict[str, Statistic]]:
    """Columns: absolute error, squared error, and centred moments of prediction and truth."""
    u, v = x - x.mean(), y - y.mean()
    n = len(x)

    def spread(s: Floats, square: int, plain: int) -> Floats:
        return s[:, square] / n - (s[:, plain] / n) ** 2

    def pearson(s: Floats) -> Floats:
        both = s[:, 6] / n - s[:, 2] * s[:, 3] / n**2
        return _ratio(both, np.sqrt(np.maximum(spread(s, 4, 2) * spread(s, 5, 3), 0)))

    return np.stack([abs(x - y), (x - y) ** 2, u, v, u * u, v * v, u * v], axis=1), {
        "mae": lambda s: s[:, 0] / n,
        "mse": lambda s: s[:, 1] / n,
        "rmse": lambda s: np.sqrt(s[:, 1] / n),
        "pearson": pearson,
        "r2": lambda s: 1 - _ratio(s[:, 1] / n, spread(s, 5, 3)),
    }


def _ratio(top: Floats, bottom: Any) -> Floats:
    ratio: Floats = np.divide(top, bottom, out=np.zeros_like(top, dtype=float), where=np.asarray(bottom) != 0)
    return ratio
