"""Pictures of certainty: reliability diagram, risk against coverage, what shifts of the data cost."""

from __future__ import annotations

__all__ = ["reliability_picture", "risk_picture", "shift_picture"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pretune.plots import blank, write_png

_GREY, _BLUE, _ORANGE = "#888888", "#1f5fa8", "#d9730d"


def reliability_picture(bins: Mapping[str, Sequence[Mapping[str, float]]], file: Path) -> Path:
    """Draws accuracy against confidence; on the diagonal a probability is what it says.

    Args:
        bins: Non-empty bins of `evaluation.Calibration` by name: as predicted, with temperature.
        file: PNG to write (atomically).
    """
    figure = blank(figsize=(5.2, 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="perfect")
    for (name, found), colour, side in zip(bins.items(), (_BLUE, _ORANGE), (-1, 1), strict=False):
        upper.plot([b["confidence"] for b in found], [b["accuracy"] for b in found], "o-", color=colour, label=name)
        places = [(b["low"] + b["high"]) / 2 + side * 0.014 * (len(bins) > 1) for b in found]
        width = 0.028 if len(bins) > 1 else 0.056
        lower.bar(places, [b["count"] for b in found], width, color=colour)
    upper.set(ylabel="share that is right", ylim=(0, 1.02), title="Is a probability what it says?")
    upper.legend(loc="upper left", frameon=False)
    lower.set(xlabel="probability of the predicted label", ylabel="records", xlim=(0, 1.02))
    return write_png(figure, file, dpi=130)


def risk_picture(points: Sequence[Mapping[str, float]], answered: tuple[float, float] | None, file: Path) -> Path:
    """Draws the share of wrong answers among the surest records, against how many are kept.

    Args:
        points: ``kept`` and ``risk``.
        answered: Share of records that the sets answer, and of wrong answers among them, as a mark.
        file: PNG to write (atomically).
    """
    figure = blank(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot([100 * p["kept"] for p in points], [100 * p["risk"] for p in points], color=_BLUE, label="by probability")
    axes.axhline(100 * points[-1]["risk"], color=_GREY, linestyle="--", linewidth=1, label="all records")
    if answered is not None:
        axes.plot(100 * answered[0], 100 * answered[1], "o", color=_ORANGE, markersize=9, label="answered by the sets")
    axes.set(xlabel="records that are answered, the surest first (%)", ylabel="wrong among them (%)", xlim=(0, 101))
    axes.set_ylim(bottom=0)
    axes.set_title("What leaving the doubtful to a person is worth")
    axes.legend(frameon=False)
    return write_png(figure, file, dpi=130)


def shift_picture(lines: Mapping[str, Sequence[Any]], clean: float, metric: str, file: Path) -> Path:
    """Draws a metric against the severity of each corruption, a panel each, with the clean value.

    Args:
        lines: For each corruption its rows: ``parameter``, ``value`` and ``loss`` (an Interval), mild to strong.
        clean: The metric without corruption.
        metric: Its name.
        file: PNG to write (atomically).
    """
    columns = min(3, len(lines))
    rows = -(-len(lines) // columns)
    figure = blank(figsize=(3.3 * columns, 2.7 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, (name, found) in zip(panels, lines.items(), strict=False):
        places = range(1, len(found) + 1)
        values = [row.value for row in found]
        low, high = ([clean - getattr(row.loss, side) for row in found] for side in ("high", "low"))
        axes.fill_between([0, *places], [clean, *low], [clean, *high], color=_BLUE, alpha=0.18, linewidth=0)
        axes.plot([0, *places], [clean, *values], "o-", color=_BLUE)
        axes.axhline(clean, color=_GREY, linestyle="--", linewidth=1)
        axes.set_xticks([0, *places], ["clean", *(row.parameter for row in found)], fontsize=8)
        axes.set_title(name, fontsize=10)
    for axes in panels[len(lines) :]:
        axes.set_visible(False)
    figure.supylabel(metric)
    return write_png(figure, file, dpi=130)
