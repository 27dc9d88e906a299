"""What the explanations of many records have in common, a group a target, and how many of them can be trusted."""

from __future__ import annotations

__all__ = ["Gathered", "Overview", "Trust"]

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pretune.checkpoint import write_text
from pretune.explanation import Explanation, environment
from pretune.intervals import Interval, exact_share, mean_interval
from pretune.tally import Influence, Tally

_HALF = 0.5
_SHOWN = 20


@dataclass
class Trust:
    """How many explanations pass their tests.

    Attributes:
        better: Those that beat random orders in both tests of faithfulness.
        compared: Those that could be compared with random orders.
        sane: Those that pass the sanity check.
        checked: Those that could be checked with random weights.
        gains: How far the deletion area of each that was compared is below the mean of random orders.
    """

    better: int = 0
    compared: int = 0
    sane: int = 0
    checked: int = 0
    gains: list[float] = field(default_factory=list)

    def add(self, explanation: Explanation) -> None:
        """Counts one."""
        tested, sanity = explanation.faithfulness, explanation.sanity
        if tested is not None and tested.level != "too few":
            self.compared += 1
            self.better += tested.level == "better"
            self.gains.append(tested.deletion.random_area.value - tested.deletion.area)
        if sanity is not None and sanity.passed is not None:
            self.checked += 1
            self.sane += sanity.passed

    @property
    def shares(self) -> dict[str, Interval]:
        """Share that is better than random, and that passes the sanity check, with intervals; what was tested."""
        counts = {"better_than_random": (self.better, self.compared), "sane": (self.sane, self.checked)}
        return {name: exact_share(k, n) for name, (k, n) in counts.items() if n}

    @property
    def gain(self) -> Interval | None:
        """Mean of `gains`, with its interval."""
        return mean_interval(self.gains) if len(self.gains) > 1 else None

    @property
    def sentences(self) -> list[tuple[str, str]]:
        """What to think of the explanations, and whether that is ``good`` or ``bad``: fewer than half pass, no gain."""
        shares, found = self.shares, []
        words = {
            "better_than_random": (self.better, self.compared, "are better than random"),
            "sane": (self.sane, self.checked, "pass the sanity check with random weights"),
        }
        for name, share in shares.items():
            passed, total, what = words[name]
            bad = share.value < _HALF
            text = f"{passed} of {total} explanations ({percent(share)}) {what}"
            found.append((f"{text}: do not rely on what they say." if bad else f"{text}.", "bad" if bad else "good"))
        if (gain := self.gain) is not None:
            area = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
            found.append((f"Mean gain in deletion area over random orders: {area}.", "good" if gain.low > 0 else "bad"))
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        shares = {name: share.to_dict() for name, share in self.shares.items()}
        return vars(self) | shares | {"gain": self.gain and self.gain.to_dict()}


def percent(share: Interval) -> str:
    """``62% [48, 75]``."""
    return f"{share.value:.0%} [{100 * share.low:.0f}, {100 * share.high:.0f}]"


class Gathered(ABC):
    """The explanations of one group, summed up as they come; records are not kept.

    Args:
        name: Of the group: a class, an entity, ``value``.
        min_records: See `Tally`.
    """

    def __init__(self, name: str, min_records: int) -> None:
        self.name = name
        self.num_explanations = 0
        self.signed = True
        self.trust = Trust()
        self.tallies: dict[str, Tally] = {title: Tally(min_records) for title in self.titles}

    @property
    @abstractmethod
    def titles(self) -> Sequence[str]:
        """What is tallied: words, letters, frequencies ..."""

    def add(self, explanation: Explanation) -> None:
        """Adds one explanation of this group."""
        self.num_explanations += 1
        self.signed = explanation.signed
        self.trust.add(explanation)
        self.gather(explanation)

    @abstractmethod
    def gather(self, explanation: Any) -> None:
        """Adds what it says."""

    @property
    def columns(self) -> list[tuple[str, list[Influence]]]:
        """Influences with their titles, for bars."""
        return [column for tally in self.tallies for column in self._columns_of(tally)]

    def _columns_of(self, title: str) -> list[tuple[str, list[Influence]]]:
        found = [(f"{title} {side}", self.tallies[title].top(sign)) for side, sign in self.sides]
        return [(heading, some) for heading, some in found if some]

    @property
    def sides(self) -> list[tuple[str, int]]:
        """What each sign means here."""
        if not self.signed:
            return [("with most attention", 1)]
        return [("that raise it", 1), ("that lower it", -1)] if self.name == "value" else [("for", 1), ("against", -1)]

    @property
    def num_left_out(self) -> int:
        """Pieces of too few records."""
        return sum(tally.num_left_out for tally in self.tallies.values())

    def pictures(self) -> list[tuple[str, str]]:
        """Captions and ``data:`` addresses."""
        return []

    def sounds(self) -> list[tuple[str, str]]:
        """Captions and ``data:`` addresses of recordings."""
        return []

    def details(self) -> dict[str, Any]:
        """Further JSON-able facts."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        tallies = {t: [i.to_dict() for i in tally.influences] for t, tally in self.tallies.items()}
        facts = {"group": self.name, "num_explanations": self.num_explanations, "trust": self.trust.to_dict()}
        return facts | tallies | {"num_left_out": self.num_left_out} | self.details()

    @property
    def heading(self) -> str:
        """The group, and on how much it rests."""
        return f"{self.name}: {self.num_explanations} explanation{'s' * (self.num_explanations != 1)}"

    def render(self) -> Group:
        """Heading and a table of each thing that is tallied, for the terminal."""
        tables = [_table(columns) for title in self.tallies if (columns := self._columns_of(title))]
        return Group(Text(f"\n{self.heading}", style="bold"), *tables)


def _table(columns: Sequence[tuple[str, Sequence[Influence]]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title, _ in columns:
        table.add_column(title)
        table.add_column("share", justify="right")
        table.add_column("in", justify="right")
    for row in range(max(len(some) for _, some in columns)):
        cells = [_cells(some[row]) if row < len(some) else ("", "", "") for _, some in columns]
        table.add_row(*(Text(cell) for three in cells for cell in three))
    return table


def _cells(found: Influence) -> tuple[str, str, str]:
    share = found.share
    return (
        found.name,
        f"{share.value:+.1%} [{100 * share.low:+.1f}, {100 * share.high:+.1f}]",
        f"{found.num_explanations}",
    )


@dataclass
class Overview:
    """The explanations of many records.

    Attributes:
        explainer: Name and options of the method.
        groups: By what was explained, those with most explanations first.
        trust: Of all explanations together.
        num_records: Records that were explained.
        num_drawn: Records that were to be explained.
        num_read: Records of the data.
        errors: Why records could not be used.
        num_without: Records in which nothing was predicted that could be explained.
        interrupted: Whether Ctrl-C ended it early.
        min_records: Pieces of fewer records are left out.
    """

    explainer: dict[str, Any]
    groups: list[Gathered] = field(default_factory=list)
    trust: Trust = field(default_factory=Trust)
    num_records: int = 0
    num_drawn: int = 0
    num_read: int = 0
    errors: list[str] = field(default_factory=list)
    num_without: int = 0
    interrupted: bool = False
    min_records: int = 2

    @property
    def shown(self) -> list[Gathered]:
        """The groups with most explanations; the .json has all."""
        return self.groups[:_SHOWN]

    @property
    def notes(self) -> list[str]:
        """What one must know to read it."""
        number = f"{self.num_records:,} of {self.num_read:,} records were explained"
        found = [f"{number} (Ctrl-C: {self.num_drawn:,} were to be)." if self.interrupted else f"{number}."]
        if self.num_without:
            found.append(f"In {self.num_without:,} of them there was nothing to explain.")
        if self.errors:
            found.append(f"{len(self.errors):,} records could not be used, the first: {self.errors[0]}")
        left = sum(g.num_left_out for g in self.groups)
        if left:
            found.append(f"Left out as in fewer than {self.min_records} explanations of a group: {left:,}.")
        if len(self.groups) > _SHOWN:
            found.append(f"{len(self.groups) - _SHOWN:,} smaller groups are in the .json alone.")
        if self.groups and not self.groups[0].signed:
            found.append("Attention has no sign: it shows where the model looked, not what spoke for the answer.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        names = ("explainer", "num_records", "num_drawn", "num_read", "num_without", "interrupted", "min_records")
        facts = {name: getattr(self, name) for name in names}
        groups = [g.to_dict() for g in self.groups]
        return facts | {"errors": self.errors, "trust": self.trust.to_dict(), "groups": groups}

    def render(self) -> Group:
        """For the terminal."""
        styles = {"good": "", "bad": "bold red"}
        parts = [Text(text, style=styles[level]) for text, level in self.trust.sentences]
        notes = [Text(note, style="italic") for note in self.notes]
        return Group(*parts, *(g.render() for g in self.shown), Text(""), *notes)

    def page(self) -> str:
        """A self-contained HTML page."""
        return environment().get_template("overview.html.j2").render(overview=self)

    def write(self, file: Path) -> Path:
        """Writes ``.html`` or ``.json``, atomically."""
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, self.page() if file.suffix == ".html" else json.dumps(self.to_dict(), indent=2) + "\n")
        return file
