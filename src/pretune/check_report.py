"""What a check found, as data and as tables in the terminal."""

from __future__ import annotations

__all__ = ["SHOWN", "CheckReport", "quantiles"]

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

SHOWN = 10
"""Examples that a message lists."""

_QUANTILES = {"least": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "most": 1.0}


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    Attributes:
        facts: Counts and lengths, JSON-able.
        problems: What training would fail on or learn wrongly; one or more make the exit status 2.
        warnings: What may be meant so.
    """

    facts: Mapping[str, Any]
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """The exit status: 2 when there are problems, else 0."""
        return 2 if self.problems else 0

    def render(self, console: Console | None = None) -> None:
        """Prints the facts as tables, then the warnings and problems."""
        out = console or Console(highlight=False)
        plain = {k: v for k, v in self.facts.items() if not isinstance(v, Mapping)}
        lengths = {k: v for k, v in self.facts.items() if isinstance(v, Mapping) and "median" in v}
        counted = {k: v for k, v in self.facts.items() if isinstance(v, Mapping) and k not in lengths}
        out.print(_table(("", ""), [(k, _shown(v)) for k, v in plain.items()]))
        if lengths:
            rows = [(k, *map(_shown, v.values())) for k, v in lengths.items()]
            out.print(_table(("length in", *_QUANTILES), rows))
        for name, counts in counted.items():
            out.print(_table((name, "rows", "share"), _shares(counts)))
        for text in self.warnings:
            out.print(f"[yellow]warning[/] {escape(text)}", soft_wrap=True)
        for text in self.problems:
            out.print(f"[red]problem[/] {escape(text)}", soft_wrap=True)
        if not self.problems:
            noted = f" Read the {len(self.warnings)} warning(s)." if self.warnings else ""
            out.print(f"[green]No problems found.[/]{noted}")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(show_header=any(head), box=None, pad_edge=False)
    for number, name in enumerate(head):
        table.add_column(escape(name), justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _shares(counts: Mapping[str, int]) -> list[tuple[str, str, str]]:
    total = sum(counts.values())
    return [(str(k), f"{n:,}", f"{n / total:.1%}") for k, n in list(counts.items())[:50]]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def quantiles(values: Any, digits: int | None = None) -> dict[str, float]:
    """Least, median, most and so on, as whole numbers or with `digits` after the point; empty for none."""
    if not len(values):
        return {}
    found = np.quantile(np.asarray(values), list(_QUANTILES.values()))
    return {name: round(float(v), digits) for name, v in zip(_QUANTILES, found, strict=True)}
