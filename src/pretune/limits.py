"""Which numbers an option may have; checked before any data is read."""

from __future__ import annotations

__all__ = ["check_numbers", "check_range"]

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pretune.errors import ConfigError

Number = TypeVar("Number", bound=float)


@dataclass(frozen=True)
class _Limit:
    """Least and greatest value; the ends count unless `above` or `below` says otherwise."""

    least: float = 0.0
    greatest: float = math.inf
    whole: bool = False
    above: bool = False
    below: bool = False

    def allows(self, value: Any) -> bool:
        kind = numbers.Integral if self.whole else numbers.Real
        if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value):
            return False
        number = float(value)
        low = number > self.least if self.above else number >= self.least
        return low and (number < self.greatest if self.below else number <= self.greatest)

    def __str__(self) -> str:
        parts = [f"{'above' if self.above else 'at least'} {self.least:g}"]
        if self.greatest < math.inf:
            parts.append(f"{'below' if self.below else 'at most'} {self.greatest:.10g}")
        return f"a {'whole ' if self.whole else ''}number, {' and '.join(parts)}"


_COUNT = _Limit(1, whole=True)
_NATURAL = _Limit(0, whole=True)
_SHARE = _Limit(0, 1, below=True)

_LIMITS = {
    "abstain": _Limit(0, 1, above=True, below=True),
    "batch_size": _COUNT,
    "ema": _SHARE,
    "folds": _Limit(2, 100, whole=True),
    "lr": _Limit(0, above=True),
    "level": _Limit(0, 1, above=True, below=True),
    "max_grad_norm": _Limit(),
    "max_records": _COUNT,
    "max_seeds": _COUNT,
    "min_records": _Limit(2, whole=True),
    "min_steps": _COUNT,
    "nearest": _NATURAL,
    "num": _COUNT,
    "num_candidates": _COUNT,
    "num_explained": _NATURAL,
    "num_micro_batches": _COUNT,
    "num_pool": _NATURAL,
    "num_random": _NATURAL,
    "num_records": _COUNT,
    "num_validations": _COUNT,
    "num_workers": _NATURAL,
    "patience": _NATURAL,
    "sanity": _NATURAL,
    "seed": _Limit(0, 2**32 - 1, whole=True),
    "seeds": _COUNT,
    "test_rate": _Limit(0, 1, above=True, below=True),
    "valid_rate": _SHARE,
    "warmup_rate": _SHARE,
    "weight_decay": _Limit(),
}


def check_numbers(options: Mapping[str, Any]) -> None:
    """Checks the options that are numbers; None is "not given", other names are passed over.

    Raises:
        ConfigError: A value that cannot work.
    """
    for name, value in options.items():
        limit = _LIMITS.get(name)
        if limit is not None and value is not None and not limit.allows(value):
            raise ConfigError(f"{name} must be {limit}; found {value}.")


def check_range(name: str, value: Number, low: float, high: float) -> Number:
    """Returns the value, or raises ConfigError when it is outside low..high."""
    if not low <= value <= high:
        raise ConfigError(f"{name} must be from {low:g} to {high:g}, and is {value:g}.")
    return value
