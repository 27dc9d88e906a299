"""Why the model says so, for some right and some wrong predictions."""

from __future__ import annotations

__all__ = ["explanation_section"]

import re
from collections.abc import Sequence

from markupsafe import Markup

from pretune.errors import PretuneError
from pretune.explaining import explain_records
from pretune.explanation import Explanation, part
from pretune.progress import say
from pretune.reporting.examples import Example, sort_of
from pretune.reporting.facts import Facts
from pretune.reporting.measured import RIGHT, WRONG
from pretune.reporting.section import Section, plural, render


def explanation_section(facts: Facts) -> Section | None:
    """Explanations with their faithfulness; what cannot be explained says so."""
    if facts.measured is None or facts.predictor is None or not facts.num_explained:
        return None
    kept = facts.measured.examples
    wrong = [e for e in kept.of(WRONG) if e.wrong > 0][: facts.num_explained // 2]
    chosen = [*wrong, *kept.of(RIGHT)[: facts.num_explained - len(wrong)]]
    say(f"explaining {plural(len(chosen), 'prediction')}")
    told: list[tuple[str, Markup]] = []
    found: list[Explanation] = []
    styles = ""
    try:
        for example in chosen:
            if explained := _explained(facts, example):
                styles, body = part(explained)
                told.append((_heading(example), Markup(_lowered(_TAGS, body))))
                found += explained
    except PretuneError as error:
        body = render("report_note.html.j2", text=str(error))
        return Section("explanations", "Why it says so", "Predictions of this task are not explained here.", body)
    if not told:
        return None
    body = render(
        "report_explanations.html.j2", parts=told, styles=Markup(_lowered(_RULES, styles)), faithless=_faithless(found)
    )
    return Section("explanations", "Why it says so", _sentence(found), body)


_TAGS, _RULES = re.compile(r"(?<=</h)[2-5](?=>)|(?<=<h)[2-5](?=[ >])"), re.compile(r"(?<=\bh)[2-5](?= \{)")


def _lowered(headings: re.Pattern[str], text: str) -> str:
    """Headings a level lower, since they stand in a section here."""
    return headings.sub(lambda found: str(int(found.group()) + 1), text)


def _heading(example: Example) -> str:
    """Whether the prediction is right, and what would be."""
    if (cell := sort_of(example.prediction, example.label)) is not None:
        return (
            f"Right: {cell[0]}." if not example.wrong else f"Wrong: the model says {cell[1]}, the label is {cell[0]}."
        )
    if "value" in example.prediction:
        return f"The model says {example.prediction['value']:.4g}, the label is {float(example.label):.4g}."
    return "Among the most wrong." if example.wrong > 0 else "Right."


def _explained(facts: Facts, example: Example) -> list[Explanation]:
    assert facts.predictor is not None
    hidden = ("_file", "_row", facts.predictor.task.label_role)
    record = {k: v for k, v in example.record.items() if k not in hidden and v is not None}
    return explain_records(facts.predictor, [record], num_targets=1)


def _faithless(found: Sequence[Explanation]) -> int:
    return sum(e.faithfulness is not None and not e.faithfulness.better_than_random for e in found)


def _sentence(found: Sequence[Explanation]) -> str:
    tested = [e for e in found if e.faithfulness is not None]
    if not tested:
        return "What of the input spoke for an answer, and what against it."
    good = len(tested) - _faithless(found)
    return (
        f"What of the input spoke for an answer, and what against it. {good} of {len(tested)} explanations name what "
        "the model used better than chance would."
    )
