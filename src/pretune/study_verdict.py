"""The verdict of a study in plain sentences; what is not clear is said to be not clear."""

from __future__ import annotations

__all__ = ["verdicts"]

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pretune.differences import Needed
from pretune.study_arms import OWN, Arm

if TYPE_CHECKING:
    from pretune.study_conclusions import Comparison


def verdicts(
    comparisons: Sequence[Comparison], saved: Mapping[str, Sequence[Needed]], arms: Sequence[Arm], *, margin: float
) -> list[str]:
    """Sentences, the answer to the main question first.

    Args:
        comparisons: Of all questions.
        saved: By arm, how many labels scratch needs.
        arms: Of the study.
        margin: Differences within it do not matter.
    """
    titles = {a.name: a.title for a in arms}
    own = next(a for a in arms if a.kind == OWN)
    main = [c for c in comparisons if c.question == "pre-training"]
    if not main:
        return ["Too few finished cells to say anything: at least two seeds of scratch and of own pre-training."]
    found = [_main(main, margin)]
    found += _labels_saved(main, saved.get(own.name, ()))
    classical = [c for c in comparisons if c.question == "baseline"]
    if classical:
        found.append(_against(f"{titles[classical[0].against]}", classical, margin))
    found += _best_strategies([c for c in comparisons if c.question == "strategy"], own)
    for arm in dict.fromkeys(c.arm for c in comparisons if c.question == "checkpoint"):
        found.append(_checkpoint(titles[arm], [c for c in comparisons if c.arm == arm and c.question == "checkpoint"]))
    return found


def _main(rows: Sequence[Comparison], margin: float) -> str:
    better = [c for c in rows if c.clear and c.found.value > 0]
    worse = [c for c in rows if c.clear and c.found.value < 0]
    parts = []
    if better:
        where = "at every number of labels tried" if len(better) == len(rows) else f"with {_numbers(better)} labels"
        parts.append(f"Own pre-training helps {where}: {_differences(better)} over scratch")
    if worse:
        where = "at every number of labels tried" if len(worse) == len(rows) else f"with {_numbers(worse)} labels"
        parts.append(f"{'it' if better else 'Own pre-training'} hurts {where}: {_differences(worse)}")
    rest = [c for c in rows if not c.clear]
    same = [c for c in rest if c.found.within(margin)]
    open_ = [c for c in rest if c not in same]
    if same:
        what = f"no difference of {100 * margin:g} points or more with {_numbers(same)}: {_differences(same)}"
        parts.append(what if parts else f"Own pre-training makes {what}")
    if open_:
        what = f"no clear difference with {_numbers(open_)}: {_differences(open_)}"
        alone = f"No clear evidence that own pre-training helps or hurts: {_differences(open_)}"
        parts.append(what if parts else alone)
    return "; ".join(parts) + "."


def _labels_saved(rows: Sequence[Comparison], saved: Sequence[Needed]) -> list[str]:
    """One sentence about the numbers of labels at which pre-training clearly helps."""
    helped = {c.labels for c in rows if c.clear and c.found.value > 0}
    parts = []
    for needed in (n for n in saved if n.labels in helped):
        reach = "more than were tried" if math.isinf(needed.equivalent) else f"about {needed.equivalent:.0f}"
        parts.append(f"{reach}{_between(needed)} to match its {needed.labels}")
    return [f"Labels saved: scratch needs {', '.join(parts)}."] if parts else []


def _between(needed: Needed) -> str:
    low, high = (f"{v:.0f}" if math.isfinite(v) else "more than tried" for v in (needed.low, needed.high))
    return "" if math.isinf(needed.low) else f" [{low}, {high}]"


def _against(baseline: str, rows: Sequence[Comparison], margin: float) -> str:
    ahead = [c for c in rows if c.clear and c.found.value > 0]
    behind = [c for c in rows if c.clear and c.found.value < 0]
    rest = [c for c in rows if not c.clear]
    parts = []
    if ahead:
        parts.append(f"own pre-training beats {baseline} with {_numbers(ahead)} labels ({_differences(ahead)})")
    if behind:
        parts.append(f"{baseline} beats it with {_numbers(behind)} ({_differences(behind)})")
    if rest:
        level = [c for c in rest if c.found.within(margin)]
        word = "they are level" if len(level) == len(rest) else "no clear difference"
        parts.append(f"{word} {'' if parts else f'from {baseline} '}with {_numbers(rest)} ({_differences(rest)})")
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _best_strategies(rows: Sequence[Comparison], own: Arm) -> list[str]:
    if not rows:
        return []
    clear = [c for c in rows if c.clear]
    tried = ", ".join(dict.fromkeys(_short(c.arm) for c in rows))
    first = own.title.rpartition(", ")[2]
    if not clear:
        return [f"How to fine-tune: no strategy tried ({tried}) differs clearly from {first}."]
    parts = [
        f"{_short(c.arm)} is {'better' if c.found.value > 0 else 'worse'} than {first} with {c.labels:,} ({c.found})"
        for c in clear
    ]
    return [f"How to fine-tune: {'; '.join(parts)}; no other difference ({tried}) is clear."]


def _checkpoint(title: str, rows: Sequence[Comparison]) -> str:
    clear = [c for c in rows if c.clear]
    if not clear:
        return f"{title}: no clear difference from own pre-training ({_differences(rows)})."
    return f"{title} against own pre-training, where clear: {_differences(clear)}."


def _short(arm: str) -> str:
    return arm.partition("+")[2] or arm


def _numbers(rows: Sequence[Comparison]) -> str:
    """``16, 64 and 256``."""
    words = [f"{c.labels:,}" for c in rows]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _differences(rows: Sequence[Comparison]) -> str:
    """``+6.1 [3.9, 8.0] at 64``, in points."""
    return ", ".join(f"{c.found} at {c.labels:,}" for c in rows)
