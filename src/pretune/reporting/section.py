"""A section of the report, and how numbers, times and names are written in it."""

from __future__ import annotations

__all__ = ["Section", "clean", "duration", "metric_text", "plural", "points", "render"]

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_SHARES = (
    "accuracy",
    "uar",
    "exact",
    "wer",
    "cer",
    "precision",
    "recall",
    "f1",
    "map",
    "ap50",
    "iou",
    "lddt",
    "tm_score",
)
"""Parts of the names of metrics that are shares, which are written in per cent."""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: Its anchor.
        title: Its heading.
        sentence: What it means, in plain words.
        body: HTML.
    """

    name: str
    title: str
    sentence: str
    body: Markup


def render(template: str, **values: Any) -> Markup:
    """A template as HTML that need not be escaped again."""
    return Markup(_environment().get_template(template).render(**values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pretune"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"thousands": "{:,}".format, "duration": duration, "plain": clean}
    return environment


def plural(number: float, word: str) -> str:
    """``1 record``, ``2,000 records``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """``42 s``, ``3.5 min`` or ``2.1 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def is_share(name: str) -> bool:
    """Whether a metric is a share, which is written in per cent."""
    return any(part in name for part in _SHARES)


def metric_text(name: str, value: float) -> str:
    """A metric as people write it: shares in per cent, others with three figures after the point."""
    if not math.isfinite(value):
        return "not defined"
    return f"{100 * value:.1f}%" if is_share(name) else f"{value:.3f}"


def points(name: str, value: float, low: float, high: float, *, level: float) -> str:
    """A difference of a metric with its interval."""
    if is_share(name):
        return f"{100 * value:+.1f} points, {100 * level:g}% interval {100 * low:+.1f} to {100 * high:+.1f}"
    return f"{value:+.3f}, {100 * level:g}% interval {low:+.3f} to {high:+.3f}"


def clean(value: Any) -> str:
    """A value of a recipe or of facts in plain words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {clean(v)}" for k, v in value.items())
    return ", ".join(map(clean, value)) if isinstance(value, list | tuple) else str(value)
