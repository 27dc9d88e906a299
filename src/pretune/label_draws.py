"""Few labels of many: which records a seed draws, the fewer among the more, every class among the fewest."""

from __future__ import annotations

__all__ = ["drawn", "label_numbers"]

from collections.abc import Sequence
from typing import Any

import numpy as np

from pretune.errors import ConfigError


def drawn(labels: Sequence[Any], seed: int) -> list[int]:
    """An order of the records whose beginnings are the draws of a seed.

    With a label that is one name the first records are one of every class, in random order; the rest are drawn at
    random, so that classes are as frequent as they are.

    Args:
        labels: The raw label of each record.
        seed: Another seed, another order.
    """
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    if not all(isinstance(label, str) for label in labels):
        return order
    firsts: dict[str, int] = {}
    for i in order:
        firsts.setdefault(labels[i], i)
    leading = set(firsts.values())
    return [*firsts.values(), *(i for i in order if i not in leading)]


_USUAL = (16, 64, 256)


def label_numbers(text: str | Sequence[Any] | None, labels: Sequence[Any]) -> list[int]:
    """The numbers of labels to try, from ``16,64,all``, smallest first.

    Args:
        text: Numbers and ``all`` with commas, or a list of them; None: all, and of 16, 64 and 256 those that are fewer
            and enough for one of every class.
        labels: The raw label of each training record.

    Raises:
        ConfigError: Not such a list, or a number that the records do not allow.
    """
    classes = len(set(labels)) if all(isinstance(label, str) for label in labels) else 2
    if text is None:
        text = [*(n for n in _USUAL if classes <= n < len(labels)), "all"]
    text = [text] if isinstance(text, int) else text
    parts = [p.strip() for p in text.split(",")] if isinstance(text, str) else [str(p) for p in text]
    wrong = [p for p in parts if p != "all" and not (p.isdecimal() and int(p) > 0)]
    if wrong or not parts:
        raise ConfigError(f'labels takes numbers and "all", as 16,64,256,all; found "{wrong[0] if wrong else ""}".')
    found = sorted({len(labels) if p == "all" else int(p) for p in parts})
    if found[-1] > len(labels):
        raise ConfigError(
            f"There are {len(labels):,} labelled records to learn from, fewer than the {found[-1]:,} asked for; "
            'use smaller numbers, or "all".'
        )
    if found[0] < classes:
        raise ConfigError(
            f"{found[0]} labels cannot hold one of each of {classes} classes; the smallest number must be {classes} "
            "or more."
        )
    return found
