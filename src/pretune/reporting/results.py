"""Results on held-out data: metrics with intervals, classes, the confusion matrix with the examples behind it."""

from __future__ import annotations

__all__ = ["calibration_section", "confusion_section", "metrics_section"]

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.evaluation import Calibration, Confusion
from pretune.page_figures import BLUE, DASHED, SOFT, bare, inline_svg
from pretune.reporting.facts import Facts
from pretune.reporting.records import piece_of
from pretune.reporting.section import Section, is_share, metric_text, plural, render

_MOST_CLASSES = 20
_MOST_CELLS = 40
"""Most confusions whose examples are shown, beside the right answers of each class."""

_OPEN_CELLS = 10
"""Those that are listed at once; the others are behind one more click."""

_MEANING = {
    "accuracy": "share of the answers that are right",
    "macro_f1": "F1 of each class, averaged: rare classes count as much as common ones",
    "micro_f1": "F1 over all decisions: common classes count more",
    "uar": "recall of each class, averaged",
    "f1": "balance of precision and recall; an entity counts only with its exact words and type",
    "precision": "share of what was found that is right",
    "recall": "share of what is there that was found",
    "pearson": "agreement with the true values on a straight line; 1 is perfect, 0 is none",
    "spearman": "agreement of the order with the true one; 1 is perfect, 0 is none",
    "mae": "mean distance from the true value, in its units",
    "rmse": "as mae, but large errors weigh more",
    "r2": "share of the variation that is explained; 0 is as good as the mean",
    "wer": "word errors for each word that was said; 0 is perfect",
    "cer": "letter errors for each letter; 0 is perfect",
    "char_accuracy": "1 less cer",
    "exact": "share of the recordings without any error",
    "map": "average precision of boxes, over how well they must fit (COCO)",
    "map50": "the same where half of the area must overlap",
    "map75": "the same where three quarters must overlap",
    "miou": "overlap of predicted and true areas, averaged over classes",
    "lddt": "share of distances between residues that are right, locally",
    "tm_score": "how alike the folds are; above 0.5 it is mostly the same fold",
    "rmsd": "mean distance of atoms after laying the chains on each other, in Angstrom",
    "long_p_l5": "share of the most probable distant contacts that are true",
}


def metrics_section(facts: Facts) -> Section | None:
    """Every metric with its interval, and repetitions with other seeds."""
    if facts.stage is None or not facts.stage.tuned:
        return None
    evaluation = facts.measured.evaluation.to_dict() if facts.measured else facts.stored
    seeds = facts.json("seeds.json")
    if evaluation is None and not facts.unmeasured:
        return None
    rows = [] if evaluation is None else _rows(evaluation)
    if evaluation is None:
        sentence = facts.unmeasured
    else:
        level = f"{evaluation.get('level', 0.95):.0%}"
        sentence = (
            f"Measured on {evaluation['num_records']:,} records that the model did not learn from. The interval says "
            f"how far chance in choosing them may have moved the value: it holds the true one {level} of the time."
        )
    body = render(
        "report_metrics.html.j2",
        rows=rows,
        picture=_whiskers(rows),
        where=facts.measured.name if facts.measured else None,
        note=facts.unmeasured if evaluation is not None else "",
        seeds=_seeds(seeds) if seeds else [],
        num_seeds=len(seeds.get("seeds", [])) if seeds else 0,
    )
    return Section("results", "Results on held-out data", sentence, body)


def _rows(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name, value in evaluation["metrics"].items():
        interval = evaluation.get("intervals", {}).get(name)
        found.append(
            {
                "key": name,
                "name": name.replace("_", " "),
                "text": metric_text(name, value),
                "low": metric_text(name, interval["low"]) if interval else "",
                "high": metric_text(name, interval["high"]) if interval else "",
                "meaning": _MEANING.get(name, ""),
                "numbers": (interval["low"], value, interval["high"]) if interval else None,
            }
        )
    return found


def _whiskers(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Metrics that are shares, as dots with intervals."""
    shown = [r for r in rows if r["numbers"] and is_share(r["key"]) and np.isfinite(r["numbers"]).all()][:12]
    if not shown:
        return None
    figure, axes = bare(0.7 + 0.32 * len(shown))
    for place, row in enumerate(reversed(shown)):
        low, value, high = (100 * v for v in row["numbers"])
        axes.plot([low, high], [place, place], color=BLUE, linewidth=2, solid_capstyle="round")
        axes.plot([value], [place], "o", color=BLUE, markersize=5.5)
    axes.set_yticks(range(len(shown)), [r["name"].replace("$", r"\$") for r in reversed(shown)])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlim(0, 101)
    axes.set_xlabel("per cent")
    axes.tick_params(axis="y", length=0)
    return inline_svg(figure, "; ".join(f"{r['name']} {r['text']}, {r['low']} to {r['high']}" for r in shown))


def _seeds(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    summary = found.get("summary", {})
    names = [n for n in summary if f"{n}_low" in summary and f"{n}_high" in summary]
    return [
        (
            n.removeprefix("test_").replace("_", " ") + (" (test)" if n.startswith("test_") else " (validation)"),
            metric_text(n, summary[n]),
            f"{metric_text(n, summary[f'{n}_low'])} to {metric_text(n, summary[f'{n}_high'])}",
        )
        for n in names
    ]


# -- classes -----------------------------------------------------------------------------------------------------------


def confusion_section(facts: Facts) -> Section | None:
    """What is taken for what, each cell with examples; and precision, recall and F1 of each class."""
    matrix = _confusion(facts)
    if matrix is None:
        return None
    counts = np.asarray(matrix.counts, np.int64)
    cells = _cells(facts, matrix, counts)
    body = render(
        "report_confusion.html.j2",
        labels=matrix.labels,
        rows=_matrix(matrix, counts, {c["name"] for c in cells}) if len(matrix.labels) <= _MOST_CLASSES else [],
        classes=_classes(matrix.labels, counts),
        groups=[cells[:_OPEN_CELLS], cells[_OPEN_CELLS:]],
    )
    return Section("confusion", "What is taken for what", _worst(matrix, counts), body)


def _confusion(facts: Facts) -> Confusion | None:
    if facts.measured is not None:
        return facts.measured.evaluation.confusion
    found = (facts.stored or {}).get("confusion")
    return Confusion(found["labels"], found["counts"]) if found else None


def _worst(matrix: Confusion, counts: NDArray[np.int64]) -> str:
    wrong = counts - np.diag(np.diag(counts))
    total = int(wrong.sum())
    if not total:
        return "No record was given a wrong class."
    true, found = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return (
        f"{plural(total, 'record')} of {int(counts.sum()):,} got a wrong class; most often {matrix.labels[true]} was "
        f"taken for {matrix.labels[found]} ({plural(int(wrong.max()), 'time')})."
    )


def _classes(labels: Sequence[str], counts: NDArray[np.int64]) -> list[dict[str, Any]]:
    right, true, found = np.diag(counts), counts.sum(1), counts.sum(0)
    rows = []
    for name, r, t, f in zip(labels, right.tolist(), true.tolist(), found.tolist(), strict=True):
        rows.append(
            {
                "name": name,
                "precision": f"{100 * r / f:.1f}%" if f else "–",
                "recall": f"{100 * r / t:.1f}%" if t else "–",
                "f1": f"{200 * r / (t + f):.1f}%" if t + f else "–",
                "count": f"{t:,}",
                "predicted": f"{f:,}",
            }
        )
    return rows


def _matrix(matrix: Confusion, counts: NDArray[np.int64], known: set[str]) -> list[dict[str, Any]]:
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return [
        {
            "label": label,
            "cells": [
                {
                    "count": int(counts[i, j]),
                    "share": round(float(shares[i, j]), 1),
                    "right": i == j,
                    "link": f"cell-{i}-{j}" if f"cell-{i}-{j}" in known else None,
                    "title": f"true {label}, predicted {matrix.labels[j]}",
                }
                for j in range(len(counts))
            ],
        }
        for i, label in enumerate(matrix.labels)
    ]


def _cells(facts: Facts, matrix: Confusion, counts: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Cells with examples: wrong ones first, the most frequent first."""
    if facts.measured is None or facts.predictor is None:
        return []
    filled = [(int(i), int(j)) for i, j in np.argwhere(counts)]
    by_count = sorted(filled, key=lambda c: -counts[c])
    order = [c for c in by_count if c[0] != c[1]][:_MOST_CELLS] + [c for c in by_count if c[0] == c[1]]
    found = []
    for i, j in order:
        true, predicted = matrix.labels[i], matrix.labels[j]
        examples = facts.measured.examples.of((true, predicted))
        pieces = [
            {
                "piece": piece_of(e.record, facts.predictor.modality, facts.room),
                "note": f"{predicted} {100 * e.prediction['probabilities'][predicted]:.0f}%",
            }
            for e in examples
        ]
        found.append(
            {
                "name": f"cell-{i}-{j}",
                "right": i == j,
                "true": true,
                "predicted": predicted,
                "count": int(counts[i, j]),
                "examples": pieces,
            }
        )
    return found


# -- calibration -------------------------------------------------------------------------------------------------------


def calibration_section(facts: Facts) -> Section | None:
    """Whether probabilities can be believed."""
    found = _calibration(facts)
    stated = facts.json("calibration.json")
    if found is None and not stated:
        return None
    body = render(
        "report_calibration.html.j2",
        picture=_reliability(found) if found else None,
        ece=f"{100 * found.ece:.1f}" if found else None,
        number=f"{sum(b['count'] for b in found.bins):,.0f} {found.of}" if found else "",
        said=_said(stated) if stated else [],
    )
    return Section("calibration", "Can its probabilities be believed?", _believed(found), body)


def _calibration(facts: Facts) -> Calibration | None:
    if facts.measured is not None:
        return facts.measured.evaluation.calibration
    found = (facts.stored or {}).get("calibration")
    return Calibration(found["ece"], found["bins"], found.get("of", "records")) if found else None


def _believed(found: Calibration | None) -> str:
    if found is None:
        return "What calibration on labelled records found."
    total = sum(b["count"] for b in found.bins)
    gap = sum(b["count"] * (b["confidence"] - b["accuracy"]) for b in found.bins) / max(total, 1)
    surest = max(b["confidence"] for b in found.bins)
    if found.ece < 0.03 and surest < 0.8:
        return f"Its probabilities come true, but it is never sure of anything: the highest are near {surest:.0%}."
    if found.ece < 0.03:
        return "When the model says 80%, it is right about 80% of the time."
    if abs(gap) < 0.5 * found.ece:
        return "Its probabilities are partly too high and partly too low: take them as a ranking."
    if gap > 0:
        return "The model is surer than it should be: what it calls 80% is right less often."
    return "The model is too modest: what it calls 80% is right more often."


def _reliability(found: Calibration) -> str:
    figure, axes = bare(3.0)
    axes.plot([0, 100], [0, 100], color=SOFT, linewidth=1, linestyle=DASHED)
    most = max(b["count"] for b in found.bins)
    x, y = ([100 * b[k] for b in found.bins] for k in ("confidence", "accuracy"))
    axes.scatter(x, y, s=[12 + 110 * b["count"] / most for b in found.bins], color=BLUE, linewidths=0)
    axes.set_xlabel("what the model says, %")
    axes.set_ylabel("how often it is right, %")
    axes.set_xlim(0, 104)
    axes.set_ylim(0, 104)
    axes.set_aspect("equal")
    said = ", ".join(f"{100 * b['confidence']:.0f}% is right {100 * b['accuracy']:.0f}%" for b in found.bins)
    return inline_svg(figure, f"Reliability diagram: {said}")


def _said(stated: Mapping[str, Any]) -> list[str]:
    """What `pretune calibrate` left, as sentences; what is missing there is left out."""
    found = []
    number, temperature, ece = (stated.get(k) for k in ("num_records", "temperature", "ece"))
    if isinstance(temperature, int | float):
        sure = "surer than it should be" if temperature > 1 else "less sure than it could be"
        found.append(f"Calibration found the temperature {temperature:.3g}: the model was {sure}.")
    if isinstance(ece, Mapping) and isinstance(ece.get("before"), int | float):
        after = ece.get("after")
        better = f", with the temperature {100 * after:.1f} points" if isinstance(after, int | float) else ""
        found.append(f"Probabilities were off by {100 * ece['before']:.1f} points{better}.")
    if isinstance(number, int) and number > 0:
        found.append(
            f"Sets of answers with a promised coverage rest on {number:,} records: up to "
            f"{100 * number / (number + 1):.1f}% can be promised, for new records that are like them."
        )
    return found
