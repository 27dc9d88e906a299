"""What the data is, and what is wrong with it."""

from __future__ import annotations

__all__ = ["data_section"]

from collections.abc import Mapping
from typing import Any

from pretune.check_report import CheckReport
from pretune.page_figures import BLUE, bare, inline_svg
from pretune.reporting.facts import Facts
from pretune.reporting.section import Section, clean, render

_MOST_BARS = 25


def data_section(facts: Facts) -> Section | None:
    """Counts, lengths, balance of labels; duplicates and leakage; what nobody has looked at."""
    if facts.stage is None:
        return None
    checked = facts.checked if isinstance(facts.checked, CheckReport) else None
    body = render(
        "report_data.html.j2",
        where=facts.data or facts.stage.recipe.get("data"),
        plain=_plain(checked) if checked else [],
        lengths=_lengths(checked) if checked else [],
        balances=_balances(_renamed(checked, facts)) if checked else [],
        findings=_findings(checked) if checked else [],
        unchecked=None if checked else _why_not(facts),
        unknown=_unknown(facts),
    )
    return Section("data", "Data", _sentence(checked, facts), body)


def _sentence(checked: CheckReport | None, facts: Facts) -> str:
    assert facts.stage is not None
    what = "labelled records" if facts.stage.tuned else "data without labels"
    if checked is None:
        return f"It learnt from {what}; they could not be looked at again for this report."
    found = len(checked.problems) + len(checked.warnings)
    if not found:
        return f"It learnt from {what}; nothing was found that would make the results look better than they are."
    return f"It learnt from {what}; {'one thing' if found == 1 else f'{found} things'} should be known about them."


def _why_not(facts: Facts) -> str:
    if isinstance(facts.checked, str):
        return facts.checked
    return "The data is no longer where the run read it, or has other content, so it could not be looked at again."


def _findings(checked: CheckReport) -> list[tuple[str, str, list[str]]]:
    """Problem or note, what it is, and the places that it lists."""
    every = [("Problem", text) for text in checked.problems] + [("Note", text) for text in checked.warnings]
    found = []
    for kind, text in every:
        first, *places = text.splitlines()
        found.append((kind, first.rstrip(":") + ("." if places else ""), [p.strip() for p in places]))
    return found


def _plain(checked: CheckReport) -> list[tuple[str, str]]:
    """Single facts, and counts of which there is one."""
    every = {k: v for k, v in checked.facts.items() if not isinstance(v, Mapping) or len(v) == 1}
    return [(k, _only(v) if isinstance(v, Mapping) else clean(v)) for k, v in every.items()]


def _only(counts: Mapping[str, Any]) -> str:
    """What all have, and how many they are."""
    ((name, number),) = counts.items()
    return f"{name} ({clean(number)})"


def _lengths(checked: CheckReport) -> list[tuple[str, dict[str, str]]]:
    found = {k: v for k, v in checked.facts.items() if isinstance(v, Mapping) and "median" in v}
    return [(name, {k: clean(v) for k, v in row.items()}) for name, row in found.items()]


def _renamed(checked: CheckReport, facts: Facts) -> dict[str, Any]:
    """The facts; the classes of masks, which are numbers there, have the names that the model gives them."""
    task: Any = facts.predictor and facts.predictor.task
    numbers: list[int] = getattr(task, "numbers", [])
    names = {str(n): name for n, name in zip(numbers, task.labels, strict=True)} if numbers else {}
    known = dict(checked.facts)
    if names and isinstance(known.get("labels"), Mapping):
        known["labels"] = {names.get(k, f"{k} (does not count)"): v for k, v in known["labels"].items()}
    return known


def _balances(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pictures of counts."""
    found = {k: v for k, v in facts.items() if isinstance(v, Mapping) and "median" not in v}
    usable = {k: v for k, v in found.items() if len(v) > 1 and all(isinstance(n, int | float) for n in v.values())}
    return [(_caption(name, counts), _bars(name, counts)) for name, counts in usable.items()]


def _caption(name: str, counts: Mapping[str, Any]) -> str:
    left = f", the {_MOST_BARS} most common of {len(counts):,}" if len(counts) > _MOST_BARS else ""
    return f"{name}{left}: how often each occurs"


def _bars(name: str, counts: Mapping[str, Any]) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])[:_MOST_BARS]
    figure, axes = bare(0.4 + 0.2 * len(most))
    names = [str(k) if len(str(k)) <= 24 else f"{str(k)[:23]}…" for k, _ in most]
    axes.barh(range(len(most)), [n for _, n in most], color=BLUE, height=0.62)
    axes.set_yticks(range(len(most)), [n.replace("$", r"\$") for n in names])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    listed = ", ".join(f"{k} {clean(n)}" for k, n in most)
    return inline_svg(figure, f"{name}: {listed}")


def _unknown(facts: Facts) -> list[str]:
    """What no look at the data can tell."""
    assert facts.stage is not None
    found = ["whether these records are like those that the model will meet, and who is missing among them"]
    if facts.stage.tuned:
        found.append("whether the labels are right: the model is judged by the labels as they are")
    if facts.stage.source is not None and (facts.measured or facts.stored):
        found.append("whether the test records were among what the model was pre-trained on")
    found.append("whether those whom the data is about agreed to this use, and what its licence allows")
    return found
