"""Linear probes: how well a label can be read off the states of a layer by a linear model, on records it has not seen.

Alain and Bengio (2016), "Understanding intermediate layers using linear classifier probes". All probes of a comparison
have the same folds and the same resamples of records, so that their differences are paired.
"""

from __future__ import annotations

__all__ = ["FEWEST", "Answers", "Curves", "Prober", "Read", "best", "sort_of_labels"]

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pretune.errors import DataError
from pretune.intervals import RESAMPLES, Floats, Indices, Interval, percentile_interval
from pretune.modalities.base import Example

FOLDS = 5
FEWEST = 20
"""Records that a probe needs."""

_PENALTIES = np.logspace(-1, 5, 13)


@dataclass(frozen=True)
class Answers:
    """What probes should read.

    Attributes:
        sort: ``class``, ``classes`` (any number), ``value``, or ``tag`` (a class a word).
        values: One a row: class index, value, or 0/1 a class.
        record_of: The record of each row; a record has one row, or one a word.
        groups: Group of each record, whose members are never both learnt from and asked about; None: each its own.
        metric: ``accuracy``, ``macro_f1`` (entities, which are rare), ``micro_f1`` (several classes) or ``r2``.
    """

    sort: str
    values: NDArray[Any]
    record_of: Indices
    groups: Indices | None = None
    metric: str = "accuracy"

    @property
    def num_records(self) -> int:
        """Records with at least one row."""
        return len(np.unique(self.record_of))


@dataclass(frozen=True)
class Read:
    """What one probe reads: its score, and the same score in every resample of the records."""

    score: Interval
    resampled: Floats

    def above(self, other: Read) -> Interval:
        """By how much it reads more than another probe of the same answers; a paired bootstrap."""
        return percentile_interval(self.score.value - other.score.value, self.resampled - other.resampled)


def sort_of_labels(examples: Sequence[Example]) -> str | None:
    """What the encoded labels are, see `Answers.sort`; None where a linear probe has nothing to read."""
    label = examples[0].get("labels")
    if "words" in examples[0] and "word_index" in examples[0]:
        return "tag"
    if isinstance(label, bool | int | np.integer):
        return "class"
    if isinstance(label, float | np.floating):
        return "value"
    several = isinstance(label, list) and all(value in (0.0, 1.0) and isinstance(value, float) for value in label)
    return "classes" if several else None


class Prober:
    """Fits and scores probes on always the same records.

    A probe is ridge regression of the standardised states (of classes: on +1 and -1, a least-squares classifier), its
    penalty chosen by leave-one-out among the records that it learns from: a linear model in closed form, since
    hundreds are fitted.

    Args:
        learn: Answers to learn from, and without `test` to be scored on, by cross-validation.
        test: Answers to be scored on instead.
        seed: Of folds and resamples.

    Raises:
        DataError: Too few records.
    """

    def __init__(self, learn: Answers, test: Answers | None, *, seed: int) -> None:
        if learn.num_records < FEWEST:
            raise DataError(f"A probe needs at least {FEWEST} records to learn from, found {learn.num_records}.")
        self.learn, self.test = learn, test
        self.scored = learn if test is None else test
        self._splits = list(_splits(learn, seed)) if test is None else []
        self._records, self._place = np.unique(self.scored.record_of, return_inverse=True)
        rng = np.random.default_rng(seed)
        number = len(self._records)
        self._draws = rng.multinomial(number, np.full(number, 1 / number), size=RESAMPLES).astype(np.float64)

    @property
    def how(self) -> str:
        """How scores were made, in words."""
        if self.test is None:
            return f"{len(self._splits)}-fold cross-validation over {self.scored.num_records:,} records"
        return f"learnt from {self.learn.num_records:,} records, scored on {self.test.num_records:,} others"

    def read(self, states: NDArray[np.float32], test_states: NDArray[np.float32] | None = None) -> Read:
        """The score of a probe of states (rows, width); `test_states` are those of the test answers."""
        return self._score(lambda y: self._probe(y), states, test_states)

    def baseline(self) -> Read:
        """What the commonest class, or the mean, scores."""
        rows = np.zeros((len(self.learn.values), 1), np.float32)
        test = None if self.test is None else np.zeros((len(self.test.values), 1), np.float32)
        return self._score(lambda _: self._constant(), rows, test)

    def _score(self, make: Any, states: NDArray[np.float32], test_states: NDArray[np.float32] | None) -> Read:
        y = self.learn.values
        if test_states is not None:
            found = make(y).fit(states, y).predict(test_states)
        else:
            found = np.zeros_like(y)
            for learn, held in self._splits:
                found[held] = make(y[learn]).fit(states[learn], y[learn]).predict(states[held])
        columns, formula = _columns(self.scored.metric, self.scored.values, found)
        sums = np.zeros((len(self._records), columns.shape[1]))
        np.add.at(sums, self._place, columns)
        resampled = formula(self._draws @ sums)
        return Read(percentile_interval(float(formula(sums.sum(0, keepdims=True))[0]), resampled), resampled)

    def _probe(self, y: NDArray[Any]) -> Any:
        if self.learn.sort == "value":
            return make_pipeline(StandardScaler(), RidgeCV(_PENALTIES))
        if self.learn.sort != "classes" and len(np.unique(y)) < 2:
            return self._constant()  # a fold without the other class
        return make_pipeline(StandardScaler(), RidgeClassifierCV(_PENALTIES))

    def _constant(self) -> Any:
        return DummyRegressor() if self.learn.sort == "value" else DummyClassifier(strategy="most_frequent")


def _splits(answers: Answers, seed: int) -> Iterator[tuple[Indices, Indices]]:
    """Rows to learn from and to be asked about, in folds; stratified by class where records are not grouped."""
    rows = np.arange(len(answers.values))
    groups = answers.record_of if answers.groups is None else answers.groups[answers.record_of]
    number = min(FOLDS, len(np.unique(groups)))
    if number < 2:
        raise DataError("All records are of one group, so that a probe cannot be asked about others; give --test.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer records than folds
        if len(np.unique(groups)) < len(rows):
            yield from GroupKFold(number, shuffle=True, random_state=seed).split(rows, groups=groups)
        elif answers.sort == "class":
            yield from StratifiedKFold(number, shuffle=True, random_state=seed).split(rows, answers.values)
        else:
            yield from KFold(number, shuffle=True, random_state=seed).split(rows)


def _columns(metric: str, true: NDArray[Any], found: NDArray[Any]) -> tuple[Floats, Any]:
    """Columns (rows, ...) whose sums say the metric, and the formula from sums (resamples, ...) to it."""
    if metric == "r2":
        y, error = true.astype(np.float64), np.square(true - found)
        return np.stack([error, y, y * y, np.ones_like(y)], 1), _r2
    if metric == "accuracy":
        return np.stack([true == found, np.ones(len(true))], 1).astype(np.float64), lambda s: s[:, 0] / s[:, 1]
    if metric == "micro_f1":
        both = np.stack([(true * found).sum(1), true.sum(1) + found.sum(1)], 1).astype(np.float64)
        return both, lambda s: _ratio(2 * s[:, 0], s[:, 1])
    names = np.unique(true)
    t, f = true[:, None] == names, found[:, None] == names
    return np.hstack([t & f, t, f]).astype(np.float64), _macro_f1


def _r2(sums: Floats) -> Floats:
    error, y, squares, number = sums.T
    return 1 - _ratio(error, squares - y * y / number)


def _macro_f1(sums: Floats) -> Floats:
    right, true, found = np.split(sums, 3, axis=1)
    return _ratio(2 * right, true + found).mean(1)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)


def best(curve: Sequence[Read]) -> int:
    """The layer that is read best."""
    return int(np.argmax([read.score.value for read in curve]))


Curves = Mapping[str, Sequence[Read]]
"""A probe a layer, for each set of weights."""
