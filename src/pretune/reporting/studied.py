"""What a study found: differences to scratch, labels saved, accuracy by minute."""

from __future__ import annotations

__all__ = ["study_section"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretune.page_figures import BLUE, DASHED, INK, RED, SOFT, bare, inline_svg
from pretune.reporting.facts import Facts
from pretune.reporting.section import Section, duration, metric_text, plural, points, render
from pretune.reporting.training import small_png

# Okabe and Ito's palette, which colour-blind people tell apart, on light and on dark pages
_COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#D55E00", "#8a6d3b")
_LINES = ("-", "-.", (0, (1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))
"""Of arms that have the colour of an earlier one."""

_LEAST_RATIO = 1.3
_WIDEST = 28
"""Letters of an arm's name beside a figure."""

_DRAWN_HERE = ("learning_curves.png", "differences.png")
"""Pictures of a study whose content this page draws in its own colours."""

Rows = list[dict[str, Any]]


def study_section(facts: Facts) -> Section | None:
    """The comparison of arms, as figures and as tables; what study.json lacks is left out."""
    study = facts.study
    if not study:
        return None
    metric = str(study.get("metric", "score"))
    level = float(study.get("difference_level", study.get("level", 0.95)))
    means, compared = _rows(study, "means", "labels", "value"), _rows(study, "comparisons", "labels", "difference")
    titles = {str(a.get("name")): str(a.get("title") or a.get("name")) for a in _rows(study, "arms", "name")}
    least = min((r["labels"] for r in means), default=0)
    body = render(
        "report_study.html.j2",
        figures=_figures(means, compared, titles, metric, level, bool(study.get("higher_is_better", True))),
        means=[_mean(r, titles, metric) for r in means],
        compared=[_comparison(r, titles, metric, level) for r in compared],
        saved=[_saved(r, titles, least) for r in _rows(study, "labels_saved", "arm", "labels")],
        efficiency=_table(_rows(study, "efficiency"), titles),
        pretraining=[_pretraining(r, titles) for r in _rows(study, "pretraining", "arm")],
        pictures=_pictures(study, facts),
        metric=metric.replace("_", " "),
    )
    return Section("study", "Was it worth it? The study", _sentence(study), body)


def _rows(study: Mapping[str, Any], name: str, *needed: str) -> Rows:
    """The rows of a table that have what is needed."""
    found = study.get(name)
    if not isinstance(found, list):
        return []
    return [r for r in found if isinstance(r, dict) and all(r.get(k) is not None for k in needed)]


def _sentence(study: Mapping[str, Any]) -> str:
    seeds = {r.get("seed") for r in _rows(study, "scores", "seed")}
    repeated = f", {plural(len(seeds), 'paired repetition')}" if seeds else ""
    tested = f" on {study['num_test']:,} test records" if isinstance(study.get("num_test"), int) else ""
    return (
        f"The same labels, splits and compute for every arm{repeated}{tested}: what differs is where the weights start "
        "and how they may move."
    )


# -- figures -----------------------------------------------------------------------------------------------------------


def _figures(
    means: Rows, compared: Rows, titles: Mapping[str, str], metric: str, level: float, higher: bool
) -> list[tuple[str, str]]:
    found = []
    if len({r["labels"] for r in means}) > 1:
        found.append((f"{metric.replace('_', ' ')} by number of labels", _by_labels(means, titles, metric)))
    against = [r for r in compared if r.get("low") is not None and r.get("high") is not None]
    if against:
        better = "right" if higher else "left"
        caption = f"differences with {100 * level:g}% intervals; {better} of the line is better, filled dots are clear"
        found.append((caption, _forest(against, titles, metric, level)))
    return found


def _by_labels(means: Rows, titles: Mapping[str, str], metric: str) -> str:
    names = list(dict.fromkeys(str(r["arm"]) for r in means if r.get("arm")))
    figure, axes = bare(2.6 + 0.16 * len(names))
    for number, (arm, style) in enumerate(_styles(names).items()):
        rows = sorted((r for r in means if r.get("arm") == arm), key=lambda r: r["labels"])
        # side by side, so that intervals do not hide each other
        x = [r["labels"] * 1.04 ** (number - len(names) / 2) for r in rows]
        y = [r["value"] for r in rows]
        ends = [[abs(r["value"] - r.get(end, r["value"])) for r in rows] for end in ("low", "high")]
        label = titles.get(arm, arm).replace("$", r"\$")
        axes.errorbar(x, y, yerr=ends, marker="o", markersize=3.5, linewidth=1.5, elinewidth=1, label=label, **style)
    axes.set_xscale("log")
    ticks = _apart(sorted({r["labels"] for r in means}))
    axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("labels")
    axes.set_ylabel(metric.replace("_", " "))
    figure.legend(fontsize=8, frameon=False, labelcolor=SOFT, loc="outside lower center", ncols=1)
    listed = ", ".join(f"{_title(r, titles)} {r['labels']}: {r['value']:.3f}" for r in means)
    return inline_svg(figure, f"Learning curves: {listed}")


def _styles(names: list[str]) -> dict[str, dict[str, Any]]:
    """The controls in grey and black, the pre-training in question in the page's colour, others by the palette."""
    fixed: dict[str, dict[str, Any]] = {
        "baseline": {"color": SOFT, "linestyle": ":"},
        "scratch": {"color": INK, "linestyle": "--"},
        "own": {"color": BLUE},
    }
    others = [n for n in names if n not in fixed]
    found = {n: divmod(others.index(n), len(_COLOURS)) for n in others}
    return {
        n: fixed.get(n) or {"color": _COLOURS[found[n][1]], "linestyle": _LINES[found[n][0] % len(_LINES)]}
        for n in names
    }


def _apart(numbers: list[int]) -> list[int]:
    """Those that can be written side by side on a logarithmic axis, the greatest among them."""
    found: list[int] = []
    for number in reversed(numbers):
        if not found or found[-1] > _LEAST_RATIO * number:
            found.append(number)
    return found[::-1]


def _forest(rows: Rows, titles: Mapping[str, str], metric: str, level: float) -> str:
    figure, axes = bare(0.7 + 0.26 * len(rows))
    for place, row in enumerate(reversed(rows)):
        clear = bool(row.get("clear"))
        colour = SOFT if not clear else BLUE if row["difference"] > 0 else RED
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot([row["difference"]], [place], "o", color=colour, markersize=5, fillstyle="full" if clear else "none")
    axes.axvline(0, color=INK, linewidth=1, linestyle=DASHED)
    names = [f"{_short(r, 'arm')} - {_short(r, 'against')}, {r['labels']:,} labels" for r in reversed(rows)]
    axes.set_yticks(range(len(rows)), [n.replace("$", r"\$") for n in names])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.set_xlabel("difference")
    said = "; ".join(
        f"{_title(r, titles)} at {r['labels']} labels {points(metric, *_three(r), level=level)}" for r in rows
    )
    return inline_svg(figure, f"Differences: {said}")


def _short(row: Mapping[str, Any], key: str) -> str:
    name = str(row.get(key))
    return name if len(name) <= _WIDEST else f"{name[: _WIDEST - 1]}…"


def _three(row: Mapping[str, Any]) -> tuple[float, float, float]:
    return row["difference"], row["low"], row["high"]


def _pictures(study: Mapping[str, Any], facts: Facts) -> list[tuple[str, str]]:
    named = study.get("pictures")
    if not isinstance(named, Mapping) or facts.study_path is None:
        return []
    found = []
    for name, caption in named.items():
        file = facts.study_path / Path(str(name)).name
        if file.suffix == ".png" and file.name not in _DRAWN_HERE and file.is_file():
            address = facts.room.take(small_png(file.read_bytes()), "image/png")
            found += [(str(caption), address)] if address else []
    return found


# -- tables ------------------------------------------------------------------------------------------------------------


def _title(row: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    return titles.get(str(row.get("arm")), str(row.get("arm")))


def _mean(row: Mapping[str, Any], titles: Mapping[str, str], metric: str) -> dict[str, str]:
    around = [row.get("low"), row.get("high")]
    return {
        "arm": _title(row, titles),
        "labels": f"{row['labels']:,}",
        "value": metric_text(metric, row["value"]),
        "interval": " to ".join(metric_text(metric, v) for v in around if v is not None),
        "time": duration(row["seconds"]) if row.get("seconds") is not None else "",
        "n": f"{row['n']:,}" if row.get("n") is not None else "",
    }


def _comparison(row: Mapping[str, Any], titles: Mapping[str, str], metric: str, level: float) -> dict[str, Any]:
    known = row.get("low") is not None and row.get("high") is not None
    p = row.get("adjusted_p", row.get("p"))
    return {
        "arm": _title(row, titles),
        "against": titles.get(str(row.get("against")), str(row.get("against", ""))),
        "labels": f"{row['labels']:,}",
        "difference": points(metric, *_three(row), level=level) if known else f"{row['difference']:+.3f}",
        "p": "" if p is None else "below 0.001" if p < 0.001 else f"{p:.3f}",
        "clear": bool(row.get("clear")),
    }


def _saved(row: Mapping[str, Any], titles: Mapping[str, str], least: int) -> str:
    note = f" {row['note']}" if row.get("note") else ""
    if row.get("equivalent") is None:
        return f"{_title(row, titles)} with {row['labels']:,} labels: scratch needs more than were tried.{note}"
    if row["equivalent"] <= least:
        return f"{_title(row, titles)} with {row['labels']:,} labels is no better than scratch with {least:,}.{note}"
    ends = [f"{row[k]:,.0f}" if row.get(k) is not None else "more than tried" for k in ("low", "high")]
    around = f" [{', '.join(ends)}]" if "low" in row and "high" in row else ""
    return (
        f"{_title(row, titles)} with {row['labels']:,} labels is as good as scratch with about "
        f"{row['equivalent']:,.0f}{around}.{note}"
    )


def _pretraining(row: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    parts = [f"took {duration(row['seconds'])}"] if row.get("seconds") is not None else []
    parts += [f"saw {row['seen']:,} {row.get('counted', '')}".rstrip()] if row.get("seen") is not None else []
    return f"{_title(row, titles)}: pre-training {' and '.join(parts)}." if parts else ""


def _table(rows: Rows, titles: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """Rows of any columns; the names of arms as their titles."""
    names = list(dict.fromkeys(k for r in rows for k in r))
    shown = [[_cell(k, r.get(k), titles) for k in names] for r in rows]
    return [n.replace("_", " ") for n in names], shown


def _cell(name: str, value: Any, titles: Mapping[str, str]) -> str:
    if value is None:
        return "–"
    if name in ("arm", "against"):
        return titles.get(str(value), str(value))
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
