"""What checks of images and of recordings have in common: bad ones, repeats, labels, overlap with test data."""

from __future__ import annotations

__all__ = ["Look", "Media", "Roles", "Row", "check_labels", "compare", "listed", "repeat_warnings", "report"]

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pretune.check_report import SHOWN, CheckReport
from pretune.data import RowError, stream_records
from pretune.errors import DataError
from pretune.image_reading import place_of
from pretune.label_checks import check_classes, check_values, number
from pretune.labelled_examples import placed
from pretune.read_ahead import ahead
from pretune.registry import build
from pretune.sources import Layout, Source
from pretune.tasks.base import Task

Roles: TypeAlias = Mapping[str, Sequence[str]]
Row: TypeAlias = tuple[dict[str, Any] | None, Exception | None]

_COMPARED = ("label", "text")
"""Label roles that one content has one value of."""


class Look(NamedTuple):
    """One row that was decoded: its record, its error if it cannot be used, a hash of its content, its measures."""

    record: dict[str, Any]
    error: Exception | None = None
    content: int = 0
    measures: Any = None


class Media:
    """Labels, hashes and places of images or recordings: some 60 bytes each.

    Args:
        source: What holds them.
        task: The task that they are labelled for, if any.
        columns: The column of a role where the user named it.
        look: Decodes a row, in threads.
    """

    noun: ClassVar[str]
    """What they are, in the plural."""

    of: ClassVar[str]
    """What they consist of."""

    inputs: Roles
    """The role of the input and its usual column names."""

    extra: ClassVar[Roles] = {}
    """Further columns that are looked at where there are some."""

    def __init__(
        self, source: Source, task: str | None, columns: Mapping[str, str], look: Callable[[Row], Look]
    ) -> None:
        self.content, self.labels, self.values = array("q"), array("q"), array("d")
        self.counts: Counter[str] = Counter()
        self.files: list[str] = []
        self.bad: list[str] = []
        self.num_bad = 0
        self._numbers = task == "regression"
        self.task: Task | None = None if task is None else build("task", task)
        self.role = None if self.task is None else self.task.label_role
        labels = {} if self.task is None else {self.task.label_role: self.task.label_columns}
        needed = {**self.inputs, **labels}
        source = source if self.task is None else self.task.source(source)
        self.unpaired = source.unpaired if isinstance(source, Layout) and source.ignored else ""
        rows = stream_records(source, roles={**self.extra, **needed}, columns=columns, required=tuple(needed))
        for looked in ahead(look, rows):
            self._take(looked)

    def _take(self, looked: Look) -> None:
        record, error, content, measures = looked
        label, classes = record.get(self.role or ""), list[str]()
        if error is None and self._numbers and number(label) is None:
            error = RowError(record["_file"], record["_row"], f"expected a number as label, found {label!r}.")
        elif error is None and self.task is not None and not self._numbers:
            try:
                classes = [] if self.role == "text" else self.task.classes_in(record)
                with placed(record):
                    self.fit(record, measures)
            except DataError as bad:
                error = bad
        if error is not None:
            self.num_bad += 1
            self.bad += [str(error)] if len(self.bad) < SHOWN else []
            return
        self.content.append(content)
        self.files.append(self.place(record))
        if self._numbers:
            self.values.append(number(label) or 0.0)
        self.counts.update(classes)
        self.labels.append(hash(json.dumps(label, default=str)) if self.role in _COMPARED else 0)
        self.measure(record, measures)

    def place(self, record: dict[str, Any]) -> str:
        """Where one is, for messages."""
        return f"{place_of(record[next(iter(self.inputs))])} ({record['_file']}, row {record['_row']})"

    def fit(self, record: dict[str, Any], measures: Any) -> None:
        """Finds a label that does not go with what `look` measured.

        Raises:
            DataError: It does not.
        """

    def measure(self, record: dict[str, Any], measures: Any) -> None:
        """Takes up what `look` measured of a usable one."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.content)

    @property
    def repeats(self) -> list[tuple[str, str]]:
        """Pairs of places that hold the same content, a later one after the first."""
        return [(self.files[first], self.files[i]) for first, i in _pairs(self.content)]

    @property
    def conflicts(self) -> list[tuple[str, str]]:
        """Those of them that have different labels."""
        pairs = ((a, b) for a, b in _pairs(self.content) if self.labels[a] != self.labels[b])
        return [(self.files[a], self.files[b]) for a, b in pairs]

    def facts(self) -> dict[str, Any]:
        """How many there are, and how many are of no use."""
        return {
            self.noun: len(self),
            f"{self.noun} that cannot be read": self.num_bad,
            f"{self.noun} that repeat an earlier one": len(self.repeats),
        }

    def problems(self, what: str = "") -> list[str]:
        """Those that cannot be used, as one problem."""
        if not self.num_bad:
            return []
        more = f"\n  ... and {self.num_bad - len(self.bad):,} more" if self.num_bad > len(self.bad) else ""
        named = "".join(f"\n  {text}" for text in self.bad)
        return [f"{self.num_bad:,} of {len(self) + self.num_bad:,} {what}{self.noun} cannot be used:{named}{more}"]


def _pairs(content: Any) -> Iterator[tuple[int, int]]:
    first: dict[int, int] = {}
    for i, value in enumerate(content):
        if (at := first.setdefault(value, i)) != i:
            yield at, i


def listed(places: Sequence[str]) -> str:
    """Some of the places, a line each."""
    more = f"\n  ... and {len(places) - SHOWN:,} more" if len(places) > SHOWN else ""
    return "".join(f"\n  {place}" for place in places[:SHOWN]) + more


def repeat_warnings(found: Media) -> list[str]:
    """What is there twice, and what is there twice with different labels."""
    warnings = [f"{found.unpaired}: left out."] if found.unpaired else []
    repeats, conflicts = ([f"{b} = {a}" for a, b in pairs] for pairs in (found.repeats, found.conflicts))
    if repeats:
        warnings.append(
            f"{len(repeats):,} {found.noun} have the {found.of} of an earlier one ({len(repeats) / len(found):.1%} of "
            f"all); with some of them held out, validation looks better than it is:{listed(repeats)}"
        )
    if conflicts:
        what = f"{len(conflicts):,} {found.noun} have the {found.of} of another with a different {found.role}"
        warnings.append(f"{what}:{listed(conflicts)}")
    return warnings


def check_labels(found: Media, task: str | None, facts: dict[str, Any], warnings: list[str]) -> list[str]:
    """Adds the facts and warnings of labels; returns the problems."""
    if task == "regression":
        return check_values(found.values, facts)
    if found.role == "label":
        return check_classes(found.counts, len(found), facts, warnings)
    if task is None:
        return []
    facts["classes"], facts["labels"] = len(found.counts), dict(found.counts.most_common())
    return [] if found.counts else [f"No label names a class; {task} has nothing to learn from."]


def compare(train: Media, test: Media, facts: dict[str, Any], problems: list[str], warnings: list[str]) -> None:
    """Adds what test data shares with training data, and the labels that it has alone."""
    problems += test.problems("test ")
    same = int(np.isin(_np(test.content), _np(train.content)).sum())
    facts |= {f"test {train.noun}": len(test), f"test {train.noun} also in training": same}
    if same:
        warnings.append(
            f"{same:,} of {len(test):,} test {train.noun} are also in the training data: test results look better than "
            "they are; remove them from one side."
        )
    unknown = sorted(set(test.counts) - set(train.counts))
    if unknown:
        problems.append(f"Test data has labels that training data has not: {', '.join(unknown[:SHOWN])}.")


def _np(values: Any) -> NDArray[np.int64]:
    return np.frombuffer(values, dtype=np.int64) if len(values) else np.zeros(0, np.int64)


def report(found: Media, facts: Mapping[str, Any], problems: list[str], warnings: list[str]) -> CheckReport:
    """The report, without empty facts; that nothing can be used is a problem."""
    if not len(found):
        problems = [*problems, f"No {found.noun.removesuffix('s')} can be used."]
    return CheckReport({k: v for k, v in facts.items() if v != {}}, tuple(problems), tuple(warnings))
