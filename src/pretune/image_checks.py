"""What is in a set of images and what is wrong with it: every one is decoded."""

from __future__ import annotations

__all__ = ["check_images"]

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.check_report import SHOWN, CheckReport, quantiles
from pretune.data import IMAGE_COLUMNS, RowError, stream_records
from pretune.errors import DataError
from pretune.image_decoding import ahead
from pretune.image_reading import place_of, seen
from pretune.label_checks import check_classes, check_values, number
from pretune.registry import build
from pretune.sources import Source
from pretune.tasks.base import Task

_TINY = 8


class _Images:
    """Sizes, modes, labels and hashes of images: some 60 bytes each."""

    def __init__(self, source: Source, task: str | None, columns: Mapping[str, str]) -> None:
        self.content, self.labels = array("q"), array("q")
        self.widths, self.heights, self.values = array("q"), array("q"), array("d")
        self.modes: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.files: list[str] = []
        self.bad: list[str] = []
        self.num_bad = 0
        self._numbers = task == "regression"
        self._task: Task | None = None if task is None else build("task", task)
        self.labelled = self._task is not None and self._task.label_role == "label"
        labels = {} if self._task is None else {self._task.label_role: self._task.label_columns}
        roles = {**IMAGE_COLUMNS, **labels}
        source = source if self._task is None else self._task.source(source)
        rows = stream_records(source, roles=roles, columns=columns, required=tuple(roles))
        for looked in ahead(_look, rows):
            self._take(*looked)

    def _take(self, record: dict[str, Any], error: Exception | None, size: Any, mode: str, content: int) -> None:
        label, classes = record.get("label"), list[str]()
        if error is None and self._numbers and number(label) is None:
            error = RowError(record["_file"], record["_row"], f"expected a number as label, found {label!r}.")
        elif error is None and self._task is not None and not self._numbers:
            try:
                classes = self._task.classes_in(record)
            except DataError as bad:
                error = bad
        if error is not None:
            self.num_bad += 1
            self.bad += [str(error)] if len(self.bad) < SHOWN else []
            return
        self.widths.append(size[0])
        self.heights.append(size[1])
        self.modes[mode] += 1
        self.content.append(content)
        self.files.append(f"{place_of(record['image'])} ({record['_file']}, row {record['_row']})")
        if self._numbers:
            self.values.append(number(label) or 0.0)
        self.counts.update(classes)
        self.labels.append(hash(json.dumps(label, default=str)))

    def __len__(self) -> int:
        return len(self.content)

    @property
    def repeats(self) -> list[tuple[str, str]]:
        """Pairs of places that hold the same pixels, a later one after the first."""
        return [(self.files[first], self.files[i]) for first, i in _pairs(self.content)]

    @property
    def conflicts(self) -> list[tuple[str, str]]:
        """Those of them that have different labels."""
        pairs = ((a, b) for a, b in _pairs(self.content) if self.labels[a] != self.labels[b])
        return [(self.files[a], self.files[b]) for a, b in pairs]

    def facts(self) -> dict[str, Any]:
        return {
            "images": len(self),
            "images that cannot be read": self.num_bad,
            "images that repeat an earlier one": len(self.repeats),
            "modes": dict(self.modes.most_common()),
            "width": quantiles(self.widths),
            "height": quantiles(self.heights),
        }

    def problems(self, what: str = "") -> list[str]:
        if not self.num_bad:
            return []
        more = f"\n  ... and {self.num_bad - len(self.bad):,} more" if self.num_bad > len(self.bad) else ""
        listed = "".join(f"\n  {text}" for text in self.bad)
        return [f"{self.num_bad:,} of {len(self) + self.num_bad:,} {what}images cannot be used:{listed}{more}"]


def _look(row: tuple[dict[str, Any] | None, Exception | None]) -> tuple[Any, ...]:
    """Record, error, size, mode and a hash of the pixels."""
    record, error = row
    if error is not None or record is None:
        return {}, error, None, "", 0
    try:
        image, mode = seen(record["image"])
    except DataError as bad:
        return record, bad, None, "", 0
    digest = hashlib.blake2b(repr((image.size, image.mode)).encode() + image.tobytes(), digest_size=8).digest()
    slim = record if isinstance(record["image"], str) else record | {"image": {"path": record["image"]["path"]}}
    return slim, None, image.size, mode, int.from_bytes(digest, "big", signed=True)


def _pairs(content: Any) -> Iterator[tuple[int, int]]:
    first: dict[int, int] = {}
    for i, value in enumerate(content):
        if (at := first.setdefault(value, i)) != i:
            yield at, i


def check_images(data: Source, task: str | None, test: Source | None, columns: Mapping[str, str]) -> CheckReport:
    """Decodes every image once; see `pretune.checks.check`."""
    found = _Images(data, task, columns)
    facts, problems, warnings = found.facts(), found.problems(), _warnings(found)
    if task == "regression":
        problems += check_values(found.values, facts)
    elif found.labelled:
        problems += check_classes(found.counts, len(found), facts, warnings)
    elif task is not None:
        facts["classes"], facts["labels"] = len(found.counts), dict(found.counts.most_common())
        problems += [] if found.counts else [f"No label names a class; {task} has nothing to learn from."]
    if test is not None:
        _check_test(found, _Images(test, task, columns), facts, problems, warnings)
    if not len(found):
        problems.append("No image can be used.")
    return CheckReport({k: v for k, v in facts.items() if v != {}}, tuple(problems), tuple(warnings))


def _warnings(found: _Images) -> list[str]:
    warnings = []
    repeats, conflicts = found.repeats, found.conflicts
    if repeats:
        warnings.append(
            f"{len(repeats):,} images have the pixels of an earlier one ({len(repeats) / len(found):.1%} of all); with "
            f"some of them held out, validation looks better than it is:{_listed(repeats)}"
        )
    if conflicts and found.labelled:
        warnings.append(
            f"{len(conflicts):,} images have the pixels of another with a different label:{_listed(conflicts)}"
        )
    small = int((np.minimum(_np(found.widths), _np(found.heights)) < _TINY).sum())
    if small:
        warnings.append(f"{small:,} images have a side below {_TINY} pixels: are they pictures?")
    return warnings


def _listed(pairs: list[tuple[str, str]]) -> str:
    more = f"\n  ... and {len(pairs) - SHOWN:,} more" if len(pairs) > SHOWN else ""
    return "".join(f"\n  {b} = {a}" for a, b in pairs[:SHOWN]) + more


def _check_test(train: _Images, test: _Images, facts: dict[str, Any], problems: list[str], warnings: list[str]) -> None:
    problems += test.problems("test ")
    same = int(np.isin(_np(test.content), _np(train.content)).sum())
    facts |= {"test images": len(test), "test images also in training": same}
    if same:
        warnings.append(
            f"{same:,} of {len(test):,} test images are also in the training data: test results look better than they "
            "are; remove them from one side."
        )
    unknown = sorted(set(test.counts) - set(train.counts))
    if unknown:
        problems.append(f"Test data has labels that training data has not: {', '.join(unknown[:SHOWN])}.")


def _np(values: Any) -> NDArray[np.int64]:
    return np.frombuffer(values, dtype=np.int64) if len(values) else np.zeros(0, np.int64)
