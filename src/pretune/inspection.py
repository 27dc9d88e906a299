"""What `inspect` found: as data, as tables in the terminal, and in sentences."""

from __future__ import annotations

__all__ = ["Compared", "Inspection", "ProbeCurves"]

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from pretune.drift import Drift
from pretune.intervals import Interval
from pretune.usefulness import Usefulness


@dataclass(frozen=True)
class ProbeCurves:
    """Linear probes of every layer.

    Attributes:
        metric: What is scored.
        how: On which records.
        baseline: The commonest class, or the mean.
        curves: Score of each layer by whose weights: ``random``, ``pre-trained``, ``fine-tuned``.
        best: The layer that is read best, by whose weights.
        gains: By how much the best layer of one is read better than that of another; paired.
    """

    metric: str
    how: str
    baseline: Interval
    curves: dict[str, list[Interval]]
    best: dict[str, int]
    gains: dict[str, Interval]


@dataclass(frozen=True)
class Compared:
    """A run beside what it started from.

    Attributes:
        run: The run.
        start: What it started from.
        drift: Of its weights.
        cka: Every layer of the start (rows) with every layer of the run; None without records.
    """

    run: str
    start: str
    drift: Drift
    cka: list[list[float]] | None

    @property
    def diagonal(self) -> list[float] | None:
        """How alike each layer is to what it was."""
        return None if self.cka is None else [row[k] for k, row in enumerate(self.cka)]


@dataclass(frozen=True)
class Inspection:
    """What training did to every layer.

    Attributes:
        run: The run.
        verb: ``pretrain`` or ``finetune``.
        layers: Their names, from input to output.
        data: Where the records are from, by role.
        probes: None where labels cannot be read by a linear probe, or there are none.
        compared: The run, and others beside it, with their starts.
        usefulness: Of the blocks of a fine-tuned run.
        notes: What could not be done, and what to keep in mind.
        seed: Of the choice of records, folds and resamples.
    """

    run: str
    verb: str
    layers: list[str]
    data: dict[str, Any]
    probes: ProbeCurves | None
    compared: list[Compared]
    usefulness: Usefulness | None
    notes: list[str] = field(default_factory=list)
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; not a number is null."""
        found: dict[str, Any] = _plain(asdict(self))
        return {"sentences": self.sentences()} | found

    def sentences(self) -> list[str]:
        """What it means."""
        found = [] if self.probes is None else _readable(self.probes, self.layers)
        for one in self.compared:
            found += _moved(one)
        return found + ([] if self.usefulness is None else _needed(self.usefulness))

    def render(self) -> Group:
        """Tables for the terminal, sentences below."""
        parts: list[Any] = []
        if self.probes is not None:
            parts.append(_probe_table(self.probes, self.layers))
        if self.compared:
            parts.append(_moved_table(self.compared))
        if self.usefulness is not None and self.usefulness.blocks:
            parts.append(_useful_table(self.usefulness))
        return Group(*parts, *(escape(f"- {s}") for s in self.sentences()), *(escape(f"Note: {n}") for n in self.notes))

    def print(self) -> None:
        """Prints `render` to the terminal."""
        Console().print(self.render())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# -- tables ------------------------------------------------------------------------------------------------------------


def _probe_table(probes: ProbeCurves, layers: Sequence[str]) -> Table:
    base = _short(probes.baseline)
    table = Table(title=f"linear probes: {probes.metric}", caption=f"{probes.how}; 95% intervals; baseline {base}")
    table.add_column("layer")
    for name in probes.curves:
        table.add_column(f"{name} weights" if name == "random" else name, justify="right")
    for k, layer in enumerate(layers):
        cells = [_short(curve[k]) for curve in probes.curves.values()]
        bold = [f"[bold]{c}[/]" if probes.best[n] == k else c for n, c in zip(probes.curves, cells, strict=True)]
        table.add_row(layer, *bold)
    return table


def _moved_table(compared: Sequence[Compared]) -> Table:
    table = Table(title="what moved: relative distance of weights, likeness of states (CKA)")
    table.add_column("layer")
    for one in compared:
        name = f"{Path(one.run).name}\n" if len(compared) > 1 else ""
        table.add_column(f"{name}weights", justify="right")
        if one.cka is not None:
            table.add_column(f"{name}CKA", justify="right")
    for k, layer in enumerate(compared[0].drift.layers):
        cells = []
        for one in compared:
            cells.append(_percent(one.drift.layers.get(layer)))
            if one.diagonal is not None:
                cells.append(f"{one.diagonal[k]:.3f}" if k < len(one.diagonal) else "")
        table.add_row(layer, *cells)
    return table


def _useful_table(useful: Usefulness) -> Table:
    title = f"fall of {useful.metric}, in hundredths (whole model: {100 * useful.score:.1f})"
    table = Table(title=title, caption=f"{useful.num_records:,} records; paired bootstrap, 95% intervals")
    table.add_column("block")
    table.add_column("skipped", justify="right")
    for what in useful.blocks[0].reset:
        table.add_column(f"with {what} weights", justify="right")
    for block in useful.blocks:
        skipped = "changes shape" if block.skipped is None else _signed(block.skipped)
        table.add_row(block.layer, skipped, *(_signed(i) for i in block.reset.values()))
    return table


def _short(interval: Interval) -> str:
    return f"{interval.value:.3f} \\[{interval.low:.2f}, {interval.high:.2f}]"


def _signed(interval: Interval) -> str:
    cell = f"{100 * interval.value:+.1f} \\[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    return cell if interval.excludes(0) else f"[dim]{cell}[/]"


def _percent(value: float | None) -> str:
    if value is None:
        return "from 0"
    return "0" if value == 0 else f"{value:.2%}"


# -- sentences ---------------------------------------------------------------------------------------------------------


def _said(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _readable(probes: ProbeCurves, layers: Sequence[str]) -> list[str]:
    *others, last = probes.curves
    score = {name: _said(probes.curves[name][k]) for name, k in probes.best.items()}
    where = {name: layers[k] for name, k in probes.best.items()}
    beside = [f"{score[n]} with {n} weights ({where[n]})" for n in reversed(others)]
    beside.append(f"{_said(probes.baseline)} without looking")
    text = f"The label is most readable in {where[last]} of the {last} encoder, {probes.metric} {score[last]}; "
    return [f"{text}{', '.join(beside)}."] + [_gain(name, gain) for name, gain in probes.gains.items()]


def _gain(name: str, gain: Interval) -> str:
    new, _, old = name.partition(" over ")
    what = {"earlier": "Earlier training", "fine-tuned": "Fine-tuning"}.get(new, "Pre-training")
    beyond = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], best layer against best layer of {old} weights"
    if gain.low == gain.high == 0:
        return f"{what} did not change how well the best layer can be read."
    if gain.low > 0:
        return f"{what} made the label easier to read: {beyond}."
    if gain.high < 0:
        return f"{what} made the label harder to read: {beyond}."
    return f"There is no evidence that {what.lower()} made the label easier to read: {beyond}."


def _moved(one: Compared) -> list[str]:
    known = {layer: v for layer, v in one.drift.layers.items() if v is not None}
    if not known:
        return []
    most, least = max(known, key=lambda n: known[n]), min(known, key=lambda n: known[n])
    still = [layer for layer, value in known.items() if value == 0]
    text = f"{one.run} moved {most} most ({_percent(known[most])} of its length at {one.start})"
    if still:
        text += f"; {'nothing moved' if len(still) == len(known) else ', '.join(still) + ' did not move'}"
    else:
        text += f" and {least} least ({_percent(known[least])})"
    if len(still) == len(known):
        text = f"No weight of the encoder of {one.run} differs from {one.start}"
    changed = one.diagonal
    finite = [] if changed is None else [v for v in changed if math.isfinite(v)]
    if finite and len(still) < len(known):
        text += f"; its states stay alike to CKA {max(finite):.3f} at best and {min(finite):.3f} at worst"
    return [f"{text}."]


def _needed(useful: Usefulness) -> list[str]:
    found = []
    skipped = {b.layer: b.skipped for b in useful.blocks if b.skipped is not None}
    if skipped:
        found.append(_falls(skipped, useful.metric, "when it is skipped"))
    for what in useful.blocks[0].reset if useful.blocks else ():
        found.append(_falls({b.layer: b.reset[what] for b in useful.blocks}, useful.metric, f"with {what} weights"))
    return found


def _falls(falls: dict[str, Interval], metric: str, when: str) -> str:
    most = max(falls, key=lambda n: falls[n].value)
    first = most[0].upper() + most[1:]
    if falls[most].low <= 0:
        return f"No single block costs {metric} {when} (largest fall: {most}, {_said(falls[most])})."
    free = [layer for layer, fall in falls.items() if fall.low <= 0]
    spare = f"; no loss is seen for {', '.join(free)}" if free else ""
    return f"{first} matters most {when}: {metric} falls by {_said(falls[most])}{spare}."
