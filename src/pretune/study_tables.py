"""A study in the terminal: scores and differences by number of labels."""

from __future__ import annotations

__all__ = ["render"]

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table

from pretune.differences import Difference
from pretune.study_arms import Arm
from pretune.study_conclusions import Conclusions


def render(found: Conclusions, arms: Sequence[Arm], *, metric: str, level: float) -> Group:
    """Tables of means and of differences."""
    return Group(_means(found, arms, metric, level), _comparisons(found))


def _means(found: Conclusions, arms: Sequence[Arm], metric: str, level: float) -> Table:
    numbers = sorted({m.labels for m in found.means})
    table = Table(title=f"{metric}, %, on test records; {level:.0%} intervals", title_justify="left")
    table.add_column("arm")
    table.add_column("")
    for n in numbers:
        table.add_column(f"{n:,} labels", justify="right")
    table.add_column("seconds", justify="right")
    by_key = {(m.arm, m.labels): m for m in found.means}
    for arm in arms:
        rows = [by_key.get((arm.name, n)) for n in numbers]
        seconds = [m.seconds for m in rows if m is not None]
        shown = [_score(m.mean) if m is not None else "" for m in rows]
        span = f"{min(seconds):.0f}-{max(seconds):.0f}" if seconds else ""
        table.add_row(arm.name, arm.title if arm.title != arm.name else "", *shown, span)
    return table


def _score(mean: Difference) -> str:
    return f"{100 * mean.value:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]"


def _comparisons(found: Conclusions) -> Table:
    title = f"paired differences, points; {100 * found.difference_level:g}% intervals"
    table = Table("question", "difference", title=title, title_justify="left")
    for name in ("labels", "points", "seeds", "adjusted p"):
        table.add_column(name, justify="right", no_wrap=name == "points")
    for c in found.comparisons:
        style = "bold green" if c.clear and c.found.value > 0 else "bold red" if c.clear else ""
        pair = f"{c.arm} - {c.against}"
        row = (c.question, pair, f"{c.labels:,}", f"[{style}]{_points(c.found)}[/]" if style else _points(c.found))
        table.add_row(*row, str(c.found.n), f"{c.adjusted_p:.3f}")
    return table


def _points(found: Difference) -> str:
    # rich would take [ for markup
    return str(found).replace("[", r"\[")
