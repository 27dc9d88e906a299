"""Some of many, evenly spaced: what stands for a whole corpus in validations, reference losses and pictures."""

from __future__ import annotations

__all__ = ["evenly_spaced"]

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def evenly_spaced(items: Sequence[Item], number: int) -> list[Item]:
    """At most `number` of the items, the first and the last among them."""
    picks = np.linspace(0, len(items) - 1, min(number, len(items))).astype(int)
    return [items[int(i)] for i in picks]
