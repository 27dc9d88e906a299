"""Budgets: "20m", "2e8tok", "3epochs", "5000steps", and the plan that ends exactly with them."""

from __future__ import annotations

__all__ = ["Budget", "Plan"]

import math
import re
from dataclasses import dataclass

from pretune.errors import ConfigError

_LONGEST = 1e11
"""Seconds: three thousand years, after which there is no date."""

_UNITS = {
    "s": ("seconds", 1.0),
    "m": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "d": ("seconds", 86400.0),
    "tok": ("tokens", 1.0),
    "images": ("tokens", 1.0),
    "epoch": ("epochs", 1.0),
    "epochs": ("epochs", 1.0),
    "step": ("steps", 1.0),
    "steps": ("steps", 1.0),
}


@dataclass(frozen=True)
class Budget:
    """An amount of compute.

    Attributes:
        amount: How much, in `unit`.
        unit: ``seconds``, ``steps``, ``tokens`` (for images: images) or ``epochs``.
    """

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str, option: str = "budget") -> Budget:
        """Reads "20m", "1.5h", "2e8tok", "1e6images", "3epochs", "5000steps".

        Raises:
            ConfigError: Not a positive number followed by a unit, or thousands of years; names the `option`.
        """
        match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([a-z]+)\s*", str(text).lower())
        unit = _UNITS.get(match.group(2)) if match else None
        amount = _number(match.group(1)) if match else 0.0
        if unit is None or not 0 < amount < math.inf or (unit[0] == "seconds" and amount * unit[1] > _LONGEST):
            raise ConfigError(
                f"{option} is a positive number and a unit (90s, 20m, 2h, 2e8tok, 1e6images, 3epochs, 5000steps); "
                f'found "{text}".'
            )
        return cls(amount * unit[1], unit[0])

    def steps(self, *, steps_per_epoch: float, tokens_per_step: float, seconds_per_step: float) -> int:
        """The number of steps that fits; at least one."""
        per_step = {
            "seconds": seconds_per_step,
            "steps": 1.0,
            "tokens": tokens_per_step,
            "epochs": 1.0 / steps_per_epoch,
        }[self.unit]
        return max(1, round(self.amount / per_step))

    @property
    def timed(self) -> bool:
        """Whether the end depends on the clock."""
        return self.unit == "seconds"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


@dataclass
class Plan:
    """How far along the budget each step is: piecewise linear, so that it can be corrected without a jump.

    Attributes:
        total_steps: The step at which progress reaches 1.
        anchor_step: Where the current piece begins.
        anchor_progress: Progress there.
    """

    total_steps: int
    anchor_step: int = 0
    anchor_progress: float = 0.0

    def progress(self, step: float) -> float:
        """Share of the budget that is spent when `step` steps are done, 0 to 1."""
        if step >= self.total_steps:
            return 1.0
        share = (step - self.anchor_step) / (self.total_steps - self.anchor_step)
        return self.anchor_progress + max(0.0, share) * (1.0 - self.anchor_progress)

    def replan(self, step: int, total_steps: int) -> None:
        """From `step` on, aims at a new end; progress stays continuous."""
        self.anchor_progress = self.progress(step)
        self.anchor_step = step
        self.total_steps = max(total_steps, step)
