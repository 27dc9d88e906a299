"""What is in a set of images and what is wrong with it: every one is decoded."""

from __future__ import annotations

__all__ = ["check_images"]

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from pretune.check_report import CheckReport, quantiles
from pretune.data import IMAGE_COLUMNS
from pretune.errors import DataError
from pretune.image_reading import seen
from pretune.media_checks import Look, Media, Roles, Row, check_labels, compare, repeat_warnings, report
from pretune.sources import Source

_TINY = 8


class _Images(Media):
    """Also sizes and modes."""

    noun, of = "images", "pixels"
    inputs: Roles = IMAGE_COLUMNS

    def __init__(self, source: Source, task: str | None, columns: Mapping[str, str]) -> None:
        self.widths, self.heights = array("q"), array("q")
        self.modes: Counter[str] = Counter()
        super().__init__(source, task, columns, _look)

    def fit(self, record: dict[str, Any], measures: Any) -> None:
        (width, height), _ = measures
        assert self.task is not None
        self.task.check_size(record[self.task.label_role], (height, width))

    def measure(self, record: dict[str, Any], measures: Any) -> None:
        (width, height), mode = measures
        self.widths.append(width)
        self.heights.append(height)
        self.modes[mode] += 1

    def facts(self) -> dict[str, Any]:
        sizes = {"width": quantiles(self.widths), "height": quantiles(self.heights)}
        return {**super().facts(), "modes": dict(self.modes.most_common()), **sizes}


def _look(row: Row) -> Look:
    """Size and mode, and a hash of the pixels."""
    record, error = row
    if error is not None or record is None:
        return Look({}, error)
    try:
        image, mode = seen(record["image"])
    except DataError as bad:
        return Look(record, bad)
    digest = hashlib.blake2b(repr((image.size, image.mode)).encode() + image.tobytes(), digest_size=8).digest()
    slim = record if isinstance(record["image"], str) else record | {"image": {"path": record["image"]["path"]}}
    return Look(slim, None, int.from_bytes(digest, "big", signed=True), (image.size, mode))


def check_images(data: Source, task: str | None, test: Source | None, columns: Mapping[str, str]) -> CheckReport:
    """Decodes every image once; see `pretune.checks.check`."""
    found = _Images(data, task, columns)
    facts, problems, warnings = found.facts(), found.problems(), repeat_warnings(found)
    small = int((np.minimum(found.widths, found.heights) < _TINY).sum()) if len(found) else 0
    if small:
        warnings.append(f"{small:,} images have a side below {_TINY} pixels: are they pictures?")
    problems += check_labels(found, task, facts, warnings)
    if test is not None:
        compare(found, _Images(test, task, columns), facts, problems, warnings)
    return report(found, facts, problems, warnings)
