"""What the cells of a study say: means, paired differences by question, labels saved, cost, a verdict."""

from __future__ import annotations

__all__ = ["Comparison", "Conclusions", "Mean", "conclude", "settled"]

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pretune.differences import Difference, Needed, Scores, holm, labels_needed, mean_score, paired
from pretune.study_arms import BASELINE, OWN, SCRATCH, Arm
from pretune.study_folder import Key
from pretune.study_verdict import verdicts

Cells = Mapping[Key, Mapping[str, Any]]


@dataclass(frozen=True)
class Mean:
    """An arm with one number of labels."""

    arm: str
    labels: int
    mean: Difference
    seconds: float
    """Median of one training."""


@dataclass(frozen=True)
class Comparison:
    """A paired difference, and whether it is clear beside all others that answer the same question.

    Attributes:
        question: ``pre-training``, ``strategy``, ``baseline`` or ``checkpoint``.
        arm: The arm that is asked about.
        against: What it is compared with.
        labels: How many both had.
        found: ``arm - against``, over the seeds that both have.
        adjusted_p: By Holm's rule over the comparisons of the question, and over both looks at the data.
        clear: Whether the adjusted p-value is below 1 - level.
    """

    question: str
    arm: str
    against: str
    labels: int
    found: Difference
    adjusted_p: float
    clear: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        found = {"difference": self.found.value, "low": self.found.low, "high": self.found.high, "p": self.found.p}
        own = {k: v for k, v in asdict(self).items() if k != "found"}
        return own | found | {"n": self.found.n}


@dataclass(frozen=True)
class Conclusions:
    """All that the cells so far say; `difference_level` is that of the intervals of differences."""

    means: list[Mean]
    comparisons: list[Comparison]
    saved: dict[str, list[Needed]]
    verdicts: list[str]
    difference_level: float


def conclude(cells: Cells, arms: Sequence[Arm], *, level: float, looks: int, margin: float) -> Conclusions:
    """Draws conclusions from finished cells; arms and numbers of labels with fewer than two seeds are left out.

    Args:
        cells: By arm, number of labels and seed.
        arms: In the order of tables.
        level: Of intervals, and of the claims of one question together.
        looks: How often the data may be looked at before it is decided to stop; each look has its share of 1 - level.
        margin: Differences within it do not matter.
    """
    numbers = sorted({n for _, n, _ in cells})
    means = [m for a in arms for n in numbers if (m := _mean(cells, a.name, n, level)) is not None]
    comparisons = [c for q, pairs in _questions(arms).items() for c in _answers(cells, q, pairs, numbers, level, looks)]
    saved = _saved(cells, arms, numbers, level)
    said = verdicts(comparisons, saved, arms, margin=margin)
    return Conclusions(means, comparisons, saved, said, _single(level, looks))


def settled(comparisons: Iterable[Comparison], labels: int, margin: float) -> bool:
    """Whether the main question is answered at a number of labels: a clear difference, or clearly none that matters."""
    main = [c for c in comparisons if c.question == "pre-training" and c.labels == labels]
    return bool(main) and all(c.clear or c.found.within(margin) for c in main)


def _questions(arms: Sequence[Arm]) -> dict[str, list[tuple[str, str]]]:
    """Which arm is compared with which, by what is asked: claims are corrected within a question."""
    own = [a.name for a in arms if a.kind == OWN]
    classical = [a.name for a in arms if a.kind == BASELINE]
    return {
        "pre-training": [(own[0], SCRATCH)],
        "baseline": [(own[0], b) for b in classical],
        "strategy": [(name, own[0]) for name in own[1:]],
        "checkpoint": [(a.name, own[0]) for a in arms if a.kind == "other"],
    }


def _scores(cells: Cells, arm: str, number: int, seeds: Sequence[int]) -> Scores:
    found = [cells[arm, number, s] for s in seeds]
    return Scores(np.array([f["score"] for f in found]), np.array([f["draws"] for f in found]))


def _seeds(cells: Cells, number: int, *names: str) -> list[int]:
    """Seeds that all these arms have."""
    each = [{s for a, n, s in cells if (a, n) == (name, number)} for name in names]
    return sorted(set.intersection(*each))


def _mean(cells: Cells, arm: str, number: int, level: float) -> Mean | None:
    seeds = _seeds(cells, number, arm)
    if len(seeds) < 2:
        return None
    seconds = float(np.median([cells[arm, number, s]["seconds"] for s in seeds]))
    return Mean(arm, number, mean_score(_scores(cells, arm, number, seeds), level), seconds)


def _single(level: float, looks: int) -> float:
    return 1 - (1 - level) / looks


def _answers(
    cells: Cells, question: str, pairs: Iterable[tuple[str, str]], numbers: Sequence[int], level: float, looks: int
) -> list[Comparison]:
    single = _single(level, looks)
    keys = [(*pair, n) for pair in pairs for n in numbers if len(_seeds(cells, n, *pair)) >= 2]
    found = [_difference(cells, *key, single) for key in keys]
    adjusted = [min(1.0, p * looks) for p in holm([d.p for d in found])]
    return [
        Comparison(question, *key, difference, p, p < 1 - level)
        for key, difference, p in zip(keys, found, adjusted, strict=True)
    ]


def _difference(cells: Cells, arm: str, against: str, number: int, level: float) -> Difference:
    seeds = _seeds(cells, number, arm, against)
    return paired(_scores(cells, arm, number, seeds), _scores(cells, against, number, seeds), level)


def _saved(cells: Cells, arms: Sequence[Arm], numbers: Sequence[int], level: float) -> dict[str, list[Needed]]:
    """By arm, how many labels scratch needs for the same score, over the seeds that all numbers of labels have."""
    seeds = sorted(set.intersection(*(set(_seeds(cells, n, SCRATCH)) for n in numbers))) if numbers else []
    found: dict[str, list[Needed]] = {}
    for arm in (a.name for a in arms if a.kind in (OWN, "other")):
        for n in numbers:
            both = [s for s in seeds if (arm, n, s) in cells]
            if len(both) >= 2:
                curve = {m: _scores(cells, SCRATCH, m, both).values for m in numbers}
                needed = labels_needed(_scores(cells, arm, n, both).values, n, curve, level=level)
                found.setdefault(arm, []).extend([needed] if needed is not None else [])
    return found
