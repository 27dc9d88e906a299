"""An inspection as pictures: probe curves, likeness of layers, drift, and what each block is worth."""

from __future__ import annotations

__all__ = ["draw"]

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretune.inspection import Compared, Inspection, ProbeCurves
from pretune.intervals import Interval
from pretune.plots import blank, write_png
from pretune.usefulness import Usefulness

_COLOURS = {"random": "#8a8f98", "earlier": "#e08e1b", "pre-trained": "#2f6fed", "fine-tuned": "#c8402f"}
_BESIDE = ("#c8402f", "#2f6fed")
_NUMBERS_UP_TO = 14


def draw(found: Inspection, folder: Path) -> list[Path]:
    """Writes what there is to draw: ``probes.png``, ``cka.png``, ``drift.png``, ``usefulness.png``; no others stay."""
    shutil.rmtree(folder, ignore_errors=True)
    done = []
    if found.probes is not None:
        done.append(_probes(found.probes, found.layers, folder / "probes.png"))
    if any(one.cka is not None for one in found.compared):
        done.append(_cka(found.compared, found.layers, folder / "cka.png"))
    if found.compared:
        done.append(_drift(found.compared, folder / "drift.png"))
    if found.usefulness is not None and found.usefulness.blocks:
        done.append(_usefulness(found.usefulness, folder / "usefulness.png"))
    return done


def _width(number: int) -> float:
    return 3.0 + 0.55 * number


def _probes(probes: ProbeCurves, layers: Sequence[str], file: Path) -> Path:
    figure = blank(figsize=(max(6.5, _width(len(layers))), 4.2), layout="constrained")
    axes = figure.subplots()
    x = np.arange(len(layers))
    for name, curve in probes.curves.items():
        axes.fill_between(x, [i.low for i in curve], [i.high for i in curve], color=_COLOURS[name], alpha=0.15, lw=0)
        label = f"{name} weights (best: {layers[probes.best[name]]})"
        axes.plot(x, [i.value for i in curve], "o-", color=_COLOURS[name], label=label)
    axes.axhline(probes.baseline.value, color="black", ls="--", lw=1, label="commonest class or mean")
    _name_layers(axes, layers)
    axes.set(ylabel=probes.metric, title="what a linear probe reads from each layer")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return write_png(figure, file, dpi=150)


def _name_layers(axes: Any, layers: Sequence[str]) -> None:
    axes.set_xticks(range(len(layers)), layers, rotation=45, ha="right", rotation_mode="anchor")


def _cka(compared: Sequence[Compared], layers: Sequence[str], file: Path) -> Path:
    seen = [one for one in compared if one.cka is not None]
    side = max(4.0, 0.42 * len(layers) + 2.2)
    figure = blank(figsize=(side * (len(seen) + 1) + 0.8, side), layout="constrained")
    panels = figure.subplots(1, len(seen) + 1)
    shown = None
    for axes, one in zip(panels, seen, strict=False):
        values = np.array(one.cka, dtype=np.float64)
        shown = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", origin="lower")
        _name_layers(axes, layers)
        axes.set_yticks(range(len(layers)), layers)
        axes.set(xlabel=one.run, ylabel=_shortened(one.start))
        if len(layers) <= _NUMBERS_UP_TO:
            _write_values(axes, values)
    figure.colorbar(shown, ax=panels[: len(seen)].tolist(), label="CKA", fraction=0.05)
    for k, one in enumerate(seen):
        panels[-1].plot(one.diagonal, "o-", color=_BESIDE[k], label=one.run)
    _name_layers(panels[-1], layers)
    panels[-1].set(ylim=(min(0, *panels[-1].get_ylim()), 1.03), title="each layer with what it was", ylabel="CKA")
    panels[-1].grid(axis="y", alpha=0.3)
    panels[-1].legend(frameon=False, fontsize=9)
    return write_png(figure, file, dpi=130)


def _write_values(axes: Any, values: Any) -> None:
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(
                j, i, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color="black" if value > 0.6 else "white"
            )


def _shortened(text: str, width: int = 42) -> str:
    return text if len(text) <= width else f"...{text[3 - width :]}"


def _drift(compared: Sequence[Compared], file: Path) -> Path:
    layers = list(compared[0].drift.layers)
    moved = any(value for one in compared for row in one.drift.types.values() for value in row.values())
    types = list(compared[0].drift.types) if moved else []
    height = 3.6 + 0.24 * len(types)
    figure = blank(figsize=(max(6.5, _width(len(layers)) * len(compared) ** 0.5), height), layout="constrained")
    rows = [3.2, *([0.24 * len(types) + 0.4] if types else [])]
    top, *below = figure.subfigures(len(rows), 1, height_ratios=rows, squeeze=False).ravel()
    _drift_bars(top.subplots(), compared, layers)
    if below:
        _drift_types(below[0], compared, types)
    return write_png(figure, file, dpi=140)


def _drift_bars(axes: Any, compared: Sequence[Compared], layers: Sequence[str]) -> None:
    wide = 0.8 / len(compared)
    for k, one in enumerate(compared):
        values = [100 * (one.drift.layers.get(n) or 0.0) for n in layers]
        place = np.arange(len(layers)) - 0.4 + wide * (k + 0.5)
        bars = axes.bar(place, values, wide * 0.92, color=_BESIDE[k], label=f"{one.run} from {_shortened(one.start)}")
        axes.bar_label(bars, [f"{v:.1f}" if v else "0" for v in values], fontsize=7, padding=1)
    _name_layers(axes, layers)
    axes.set(ylabel="distance / length at start, %", title="how far the weights of each layer moved")
    axes.margins(y=0.15)
    if axes.get_ylim()[0] < 0:  # nothing moved
        axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=8)


def _drift_types(figure: Any, compared: Sequence[Compared], types: Sequence[str]) -> None:
    panels = np.atleast_1d(figure.subplots(1, len(compared), sharey=True))
    tables = [np.array([_row(one, t) for t in types], dtype=np.float64) * 100 for one in compared]
    largest = max([float(np.nanmax(t)) for t in tables if np.isfinite(t).any()] or [1.0])
    for axes, one, table in zip(panels, compared, tables, strict=True):
        shown = axes.imshow(table, aspect="auto", cmap="magma_r", vmin=0, vmax=largest or 1.0)
        blocks = _blocks(one)
        axes.set_xticks(range(len(blocks)), blocks, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(len(types)), types, fontsize=8)
        if len(compared) > 1:
            axes.set_title(one.run, fontsize=9)
    figure.colorbar(shown, ax=panels.tolist(), label="%", fraction=0.04)


def _blocks(one: Compared) -> list[str]:
    return list(dict.fromkeys(n for row in one.drift.types.values() for n in row))


def _row(one: Compared, sort: str) -> list[float]:
    values = [one.drift.types.get(sort, {}).get(n) for n in _blocks(one)]
    return [np.nan if v is None else v for v in values]


def _usefulness(useful: Usefulness, file: Path) -> Path:
    names = [b.layer for b in useful.blocks]
    falls: dict[str, list[Interval | None]] = {"skipped": [b.skipped for b in useful.blocks]}
    for what in useful.blocks[0].reset:
        falls[what] = [b.reset[what] for b in useful.blocks]
    figure = blank(figsize=(max(6.5, _width(len(names)) * 1.3), 4.2), layout="constrained")
    axes = figure.subplots()
    wide = 0.8 / len(falls)
    for k, (what, found) in enumerate(falls.items()):
        there = [(i, f) for i, f in enumerate(found) if f is not None]
        place = [i - 0.4 + wide * (k + 0.5) for i, _ in there]
        values = [f.value for _, f in there]
        error = np.array([[f.value - f.low, f.high - f.value] for _, f in there]).T.reshape(2, -1).clip(0)
        label = what if what == "skipped" else f"with {what} weights"
        axes.bar(place, values, wide * 0.92, yerr=error, color=_COLOURS.get(what, "#3a9d5d"), label=label, capsize=2)
    axes.axhline(0, color="black", lw=0.8)
    _name_layers(axes, names)
    axes.set(ylabel=f"fall of {useful.metric}", title=f"what each block is worth (whole model: {useful.score:.3f})")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return write_png(figure, file, dpi=150)
