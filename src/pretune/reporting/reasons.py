"""Why the model says so, for some right and some wrong predictions."""

from __future__ import annotations

__all__ = ["explanation_section"]

import itertools
import re
import time
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from pretune.errors import PretuneError
from pretune.explaining import explain_records
from pretune.explanation import Explanation, part
from pretune.progress import say
from pretune.reporting.examples import Example, sort_of
from pretune.reporting.facts import Facts
from pretune.reporting.measured import RIGHT, WRONG
from pretune.reporting.section import Section, plural, render

SECONDS = 60.0
"""After so long no further prediction is explained."""


def explanation_section(facts: Facts) -> Section | None:
    """Explanations with their faithfulness; what cannot be explained says so."""
    if facts.measured is None or facts.predictor is None or not facts.num_explained:
        return None
    chosen = _chosen(facts)
    say(f"explaining {plural(len(chosen), 'prediction')}, for {SECONDS:.0f} s at most")
    told: list[tuple[bool, str, Markup]] = []
    found: list[Explanation] = []
    empty: list[str] = []
    styles, start = "", time.monotonic()
    try:
        for wrong, example in chosen:
            if told and time.monotonic() - start > SECONDS:
                break
            heading, of = _mistake(facts, example) if wrong else (_heading(example), None)
            explained = _explained(facts, example, of)
            if all(e.answer is None for e in explained):
                empty.append(explained[0].note or "")
                continue
            styles, body = part(explained)
            told.append((wrong, heading, Markup(_lowered(_TAGS, body))))
            found += explained
    except PretuneError as error:
        body = render("report_note.html.j2", text=str(error))
        return Section("explanations", "Why it says so", "Predictions of this task are not explained here.", body)
    if not told and empty:
        body = render("report_note.html.j2", text=empty[0])
        return Section("explanations", "Why it says so", "Nothing was predicted that could be explained.", body)
    if not told:
        return None
    body = render(
        "report_explanations.html.j2",
        parts=[(heading, body) for _, heading, body in sorted(told, key=lambda t: not t[0])],
        styles=Markup(_lowered(_RULES, styles)),
        faithless=_faithless(found),
        left=len(chosen) - len(told) - len(empty),
        empty=len(empty),
        seconds=f"{SECONDS:.0f}",
    )
    return Section("explanations", "Why it says so", _sentence(found), body)


def _chosen(facts: Facts) -> list[tuple[bool, Example]]:
    """Whether it is among the most wrong, and the prediction; wrong and right ones by turns, in case time is short."""
    assert facts.measured is not None
    kept, number = facts.measured.examples, facts.num_explained
    wrong = [e for e in kept.of(WRONG) if e.wrong > 0][: (number + 1) // 2]
    right = [e for e in kept.of(RIGHT) if all(e is not w for w in wrong)][: number - len(wrong)]
    turns = itertools.zip_longest([(True, e) for e in wrong], [(False, e) for e in right])
    return [item for turn in turns for item in turn if item is not None]


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
    return "Among the least wrong." if example.wrong > 0 else "Right."


def _mistake(facts: Facts, example: Example) -> tuple[str, Any]:
    """What is wrong, and the part of the prediction that is explained; None is what the task would choose."""
    assert facts.predictor is not None
    found = facts.predictor.task.mistake(example.prediction, example.label)
    if found is not None:
        return f"Among the most wrong. {found[0]}", found[1]
    heading = _heading(example)
    return ("Among the most wrong." if heading == "Among the least wrong." else heading), None


def _explained(facts: Facts, example: Example, of: Any) -> list[Explanation]:
    assert facts.predictor is not None
    hidden = ("_file", "_row", facts.predictor.task.label_role)
    record = {k: v for k, v in example.record.items() if k not in hidden and v is not None}
    return explain_records(facts.predictor, [record], of=of, num_targets=1)


def _faithless(found: Sequence[Explanation]) -> int:
    return sum(e.faithfulness is not None and e.faithfulness.level == "no better" for e in found)


def _sentence(found: Sequence[Explanation]) -> str:
    tested = [e for e in found if e.faithfulness is not None]
    if not tested:
        return "What of the input spoke for an answer, and what against it."
    levels = [e.faithfulness.level for e in tested if e.faithfulness is not None]
    good, partly = levels.count("better"), levels.count("partly")
    return (
        f"What of the input spoke for an answer, and what against it. {good} of {len(tested)} explanations name what "
        f"the model used better than chance would{f', {partly} in one of two tests alone' if partly else ''}."
    )
