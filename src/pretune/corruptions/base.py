"""A corruption: a change of a record that leaves its label as it is, at a few severities."""

from __future__ import annotations

__all__ = ["Corruption", "Record", "corrupted", "drawn"]

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Record: TypeAlias = Mapping[str, Any]
"""Columns named by role, as `Modality.process` takes it."""


@dataclass(frozen=True)
class Corruption:
    """One sort of change (compare Hendrycks & Dietterich 2019).

    Attributes:
        name: What it is, in a few words.
        severities: Parameter of each severity, mild to strong; the random numbers are the same for all of them, so that
            a stronger change includes a milder one.
        unit: How a parameter is written, e.g. ``{:.0%} of letters``.
        change: From record, parameter and generator to the changed record; the input alone is changed, never a label,
            and never the place of anything a label speaks of: words, pixels, residues, seconds.
    """

    name: str
    severities: Sequence[float]
    unit: str
    change: Callable[[Record, float, np.random.Generator], Record]

    def parameter(self, severity: int) -> str:
        """The parameter of a severity from 0, as text."""
        return self.unit.format(self.severities[severity])


def corrupted(corruption: Corruption, severity: int, records: Sequence[Record], seed: int) -> list[Record]:
    """The records changed, each by its own generator: what happens to one does not depend on the others."""
    strength = corruption.severities[severity]
    return [corruption.change(r, strength, drawn(corruption.name, i, seed)) for i, r in enumerate(records)]


def drawn(name: str, position: int, seed: int) -> np.random.Generator:
    """The generator of one record."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), position])
