"""Examples and errors of numbers and of sets of labels."""

from __future__ import annotations

__all__ = ["labels_section", "values_section"]

from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from pretune.page_figures import BLUE, DASHED, SOFT, bare, inline_svg
from pretune.reporting.facts import Facts
from pretune.reporting.measured import RIGHT, WRONG, Measured
from pretune.reporting.records import piece_of
from pretune.reporting.section import Section, render

_MOST_DOTS = 1500


def shown_examples(facts: Facts, sort: str, note: Any) -> list[dict[str, Any]]:
    """The kept examples of a sort as pieces of the page, each with ``note(example)``."""
    assert facts.measured is not None
    assert facts.predictor is not None
    modality = facts.predictor.modality
    return [
        {"piece": piece_of(e.record, modality, facts.room), "note": note(e)} for e in facts.measured.examples.of(sort)
    ]


def values_section(facts: Facts) -> Section | None:
    """True against predicted numbers, what is left over, and the records with the largest errors."""
    measured = facts.measured
    if measured is None or "value" not in measured.predicted[0]:
        return None
    truth = np.array([float(v) for v in measured.labels])
    found = np.array([p["value"] for p in measured.predicted])
    errors = found - truth
    body = render(
        "report_values.html.j2",
        figures=[
            ("predicted by true value", _scatter(truth, found)),
            ("errors (predicted less true)", _errors(errors)),
        ],
        groups=[
            ("Largest errors", shown_examples(facts, WRONG, _value_note)),
            ("Smallest errors", shown_examples(facts, RIGHT, _value_note)),
        ],
    )
    lean = float(errors.mean())
    near = float(np.median(np.abs(errors)))
    sentence = f"Half of the predictions are within {near:.3g} of the true value; on average they are {lean:+.3g} off."
    return Section("values", "Predicted and true values", sentence, body)


def _value_note(example: Any) -> str:
    return f"true {float(example.label):.4g}, predicted {example.prediction['value']:.4g}"


def _scatter(truth: Any, found: Any) -> str:
    figure, axes = bare(3.0)
    chosen = np.linspace(0, len(truth) - 1, min(len(truth), _MOST_DOTS)).round().astype(int)
    ends = [min(truth.min(), found.min()), max(truth.max(), found.max())]
    axes.plot(ends, ends, color=SOFT, linewidth=1, linestyle=DASHED)
    axes.scatter(truth[chosen], found[chosen], s=9, color=BLUE, alpha=0.45, linewidths=0)
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    return inline_svg(figure, f"Scatter of {len(truth):,} true and predicted values; on the dashed line they are equal")


def _errors(errors: Any) -> str:
    figure, axes = bare(1.9)
    axes.hist(errors, bins=min(40, max(5, len(errors) // 8)), color=BLUE, alpha=0.75)
    axes.axvline(0, color=SOFT, linewidth=1, linestyle=DASHED)
    axes.set_xlabel("predicted less true")
    axes.set_ylabel("records")
    return inline_svg(figure, f"Errors: mean {errors.mean():.3g}, standard deviation {errors.std():.3g}")


def labels_section(facts: Facts) -> Section | None:
    """Sets of labels: each label's scores, and the records with most that is wrong."""
    measured = facts.measured
    if measured is None or "labels" not in measured.predicted[0]:
        return None
    body = render(
        "report_labels.html.j2",
        classes=_scores(facts, measured),
        groups=[("Most wrong", shown_examples(facts, WRONG, lambda e: _set_note(facts, e)))],
    )
    return Section(
        "labels", "Label by label", "Each label is a decision of its own: found or not, rightly or not.", body
    )


def _truth(facts: Facts, label: Any) -> list[str]:
    assert facts.predictor is not None
    return list(facts.predictor.task.read_label({"label": label}, "label"))


def _set_note(facts: Facts, example: Any) -> str:
    true, found = (", ".join(v) or "nothing" for v in (_truth(facts, example.label), example.prediction["labels"]))
    return f"true: {true}; predicted: {found}"


def _scores(facts: Facts, measured: Measured) -> list[dict[str, Any]]:
    truth = [_truth(facts, label) for label in measured.labels]
    guess = [p["labels"] for p in measured.predicted]
    names = sorted({n for row in (*truth, *guess) for n in row})
    if not names:
        return []
    binary = MultiLabelBinarizer(classes=names)
    a, b = binary.fit_transform(truth), binary.transform(guess)
    parts = precision_recall_fscore_support(a, b, average=None, zero_division=0)
    rows = zip(names, *(p.tolist() for p in parts), b.sum(0).tolist(), strict=True)
    keys = ("name", "precision", "recall", "f1")
    return [
        dict(zip(keys, (n, *(f"{100 * v:.1f}%" for v in (p, r, f))), strict=True))
        | {"count": f"{int(s):,}", "predicted": f"{int(m):,}"}
        for n, p, r, f, s, m in rows
    ]
