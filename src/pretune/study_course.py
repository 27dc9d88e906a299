"""The course of a study: which cells come next, when the answer is clear, when the time is over."""

from __future__ import annotations

__all__ = ["Clock", "Course"]

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pretune.budget import Budget
from pretune.errors import ConfigError
from pretune.progress import say
from pretune.study_arms import Arm
from pretune.study_cells import Bench, Plan
from pretune.study_conclusions import Conclusions, conclude, settled
from pretune.study_folder import StudyFolder
from pretune.train import Interrupted


class Clock:
    """How much of a time is left.

    Args:
        limit: E.g. ``30m``; None never ends.

    Raises:
        ConfigError: Not a time.
    """

    def __init__(self, limit: str | None) -> None:
        budget = None if limit is None else Budget.parse(limit, "max_time")
        if budget is not None and not budget.timed:
            raise ConfigError(f"max_time is a time, such as 30m or 2h; found {limit}.")
        self.end = None if budget is None else time.monotonic() + budget.amount

    def allows(self, seconds: float) -> bool:
        """Whether something that takes so long would end in time."""
        return self.end is None or time.monotonic() + seconds <= self.end


@dataclass(frozen=True)
class Course:
    """Measures cells seed by seed, so that what is there at any moment is paired.

    Attributes:
        folder: Keeps them.
        plan: What they have in common.
        arms: What is compared.
        numbers: Of labels, smallest first.
        seeds: That every arm gets.
        further: More seeds for numbers of labels at which the main question is still open.
        level: Of intervals and claims.
        margin: Differences within it do not matter.
        clock: When to stop.
    """

    folder: StudyFolder
    plan: Plan
    arms: Sequence[Arm]
    numbers: Sequence[int]
    seeds: Sequence[int]
    further: Sequence[int]
    level: float
    margin: float
    clock: Clock

    def run(self) -> int:
        """Measures what is missing; returns how many cells there was no time for.

        Raises:
            Interrupted: Ctrl-C; the finished cells are kept.
        """
        with Bench(self.plan, self.folder.path) as bench:
            left = self._stage(bench, self.seeds, self.numbers)
            if left or not self.further:
                return left
            found = self.conclusions(self.seeds).comparisons
            unclear = [n for n in self.numbers if not settled(found, n, self.margin)]
            if unclear:
                say(
                    f"after {len(self.seeds)} seeds it is open whether pre-training helps with "
                    f"{', '.join(f'{n:,}' for n in unclear)} labels: {len(self.further)} more seeds"
                )
            return self._stage(bench, self.further, unclear)

    def conclusions(self, seeds: Sequence[int] | None = None) -> Conclusions:
        """What the finished cells of these seeds (None: all of the study) say."""
        chosen = [*self.seeds, *self.further] if seeds is None else seeds
        names = {a.name for a in self.arms}
        wanted = (names, self.numbers, chosen)
        cells = {k: v for k, v in self.folder.cells.items() if all(a in b for a, b in zip(k, wanted, strict=True))}
        return conclude(cells, self.arms, level=self.level, looks=1 + bool(self.further), margin=self.margin)

    def _stage(self, bench: Bench, seeds: Sequence[int], numbers: Sequence[int]) -> int:
        every = [(arm, n, s) for s in seeds for n in numbers for arm in self.arms]
        due = [(arm, n, s) for arm, n, s in every if (arm.name, n, s) not in self.folder.cells]
        for place, (arm, number, seed) in enumerate(due):
            if not self.clock.allows(self._usual_seconds(arm.name, number)):
                say(f"the time is over: {len(due) - place} of {len(due)} cells are missing; the same command adds them")
                return len(due) - place
            score, wall = self._cell(bench, arm, number, seed)
            ahead = sum(self._usual_seconds(a.name, n) for a, n, _ in due[place + 1 :])
            say(
                f"{place + 1}/{len(due)}  seed {seed}  {number:,} labels  {arm.title}: {100 * score:.1f}  "
                f"({wall:.0f} s; about {ahead / 60:.0f} min to go)"
            )
        return 0

    def _cell(self, bench: Bench, arm: Arm, number: int, seed: int) -> tuple[float, float]:
        start = time.monotonic()
        try:
            found = bench.measure(arm, number, seed)
        except (Interrupted, KeyboardInterrupt) as error:
            kept = f"{self.folder.path} keeps what is finished ({len(self.folder.cells)})"
            raise Interrupted(f"Interrupted: {kept}; repeat the command to go on.") from error
        wall = time.monotonic() - start
        self.folder.add((arm.name, number, seed), found | {"wall": wall})
        return found["score"], wall

    def _usual_seconds(self, arm: str, number: int) -> float:
        """What a cell like this took, or one of the arm with the nearest smaller number of labels."""
        like = {n: c["wall"] for (a, n, _), c in self.folder.cells.items() if a == arm}
        smaller = [n for n in like if n <= number]
        return float(like[max(smaller)]) if smaller else float(max(like.values(), default=0.0))
