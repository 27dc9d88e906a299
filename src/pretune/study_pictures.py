"""Pictures of a study: scores by number of labels, differences with their intervals, scores by cost."""

from __future__ import annotations

__all__ = ["write_pictures"]

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretune.plots import blank, write_png
from pretune.study_arms import BASELINE, SCRATCH, Arm
from pretune.study_conclusions import Conclusions, Mean
from pretune.study_folder import PICTURES

# Okabe and Ito's palette, which colour-blind people tell apart
_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#D55E00", "#8a6d3b", "#7b3294")
_GREY, _DARK = "#8c8c8c", "#4d4d4d"


def write_pictures(folder: Path, found: Conclusions, arms: Sequence[Arm], metric: str) -> dict[str, str]:
    """Draws what there is; returns the file names with a caption each."""
    drawn = {}
    makers = (_curves, _differences, _cost)
    captions = (
        f"{metric} on test records by number of labels, with intervals over label draws and test records",
        "Paired differences; hollow: not clear after correction for the number of comparisons",
        f"{metric} by seconds of one fine-tuning; pre-training, which is paid once, is not in it",
    )
    for name, make, caption in zip(PICTURES, makers, captions, strict=True):
        figure = make(found, arms, metric)
        if figure is not None:
            write_png(figure, folder / name, dpi=160, bbox_inches="tight")
            drawn[name] = caption
    return drawn


def _style(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """Controls grey, everything pre-trained in colour."""
    styles: dict[str, dict[str, Any]] = {}
    colours = iter(_COLOURS * (1 + len(arms) // len(_COLOURS)))
    for arm in arms:
        plain = {SCRATCH: {"color": _DARK, "linestyle": "--"}, BASELINE: {"color": _GREY, "linestyle": ":"}}
        styles[arm.name] = plain.get(arm.kind) or {"color": next(colours)}
    return styles


def _axes(figure: Any) -> Any:
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return axes


def _by_labels(axes: Any, numbers: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [f"{n:,}" for n in numbers])
    axes.minorticks_off()
    axes.set_xlabel("labels")


def _curves(found: Conclusions, arms: Sequence[Arm], metric: str) -> Any:
    numbers = sorted({m.labels for m in found.means})
    if not numbers:
        return None
    figure = blank(figsize=(7, 4.2))
    axes, styles = _axes(figure), _style(arms)
    for k, arm in enumerate(arms):
        rows = [m for m in found.means if m.arm == arm.name]
        # side by side, so that intervals do not hide each other
        x = [m.labels * 2 ** (0.05 * (k - len(arms) / 2)) for m in rows]
        y, low, high = ([100 * getattr(m.mean, end) for m in rows] for end in ("value", "low", "high"))
        errors = [[v - a for v, a in zip(y, low, strict=True)], [b - v for v, b in zip(y, high, strict=True)]]
        axes.errorbar(x, y, yerr=errors, marker="o", markersize=4, capsize=2, label=arm.title, **styles[arm.name])
    _by_labels(axes, numbers)
    axes.set_ylabel(f"{metric}, %")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _differences(found: Conclusions, arms: Sequence[Arm], metric: str) -> Any:
    rows = found.comparisons
    if not rows:
        return None
    titles = {a.name: a.title for a in arms}
    figure = blank(figsize=(7, 0.9 + 0.3 * len(rows)))
    axes = _axes(figure)
    axes.axvline(0, color=_DARK, linewidth=1)
    names = []
    for place, c in enumerate(rows):
        colour = _GREY if not c.clear else _COLOURS[0] if c.found.value > 0 else _COLOURS[5]
        ends = [[100 * (c.found.value - c.found.low)], [100 * (c.found.high - c.found.value)]]
        face = colour if c.clear else "white"
        axes.errorbar([100 * c.found.value], [place], xerr=ends, fmt="o", color=colour, markerfacecolor=face, capsize=2)
        names.append(f"{titles[c.arm]} - {titles[c.against]}, {c.labels:,} labels")
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"difference in {metric}, points")
    return figure


def _cost(found: Conclusions, arms: Sequence[Arm], metric: str) -> Any:
    rows = [m for m in found.means if m.seconds > 0]
    if not rows:
        return None
    figure = blank(figsize=(7, 4.2))
    axes, styles = _axes(figure), _style(arms)
    for arm in arms:
        mine: list[Mean] = [m for m in rows if m.arm == arm.name]
        x, y = [m.seconds for m in mine], [100 * m.mean.value for m in mine]
        axes.plot(x, y, marker="o", markersize=4, label=arm.title, **styles[arm.name])
        for m, at, height in zip(mine, x, y, strict=True):
            axes.annotate(f"{m.labels:,}", (at, height), fontsize=6, xytext=(3, 3), textcoords="offset points")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("seconds of one fine-tuning (numbers: labels)")
    axes.set_ylabel(f"{metric}, %")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
