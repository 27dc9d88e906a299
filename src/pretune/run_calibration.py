"""RUN/calibration.json: what held-out records said about the certainty of a run, and predictions that use it."""

from __future__ import annotations

__all__ = ["FILE", "RunCalibration", "finisher"]

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from pretune.checkpoint import write_text
from pretune.conformity import conformal_quantile, conformal_rank
from pretune.errors import ConfigError, RunError
from pretune.limits import check_numbers
from pretune.progress import say
from pretune.tasks.base import Prediction, Task

FILE = "calibration.json"


@dataclass(frozen=True)
class RunCalibration:
    """What `calibrate` found.

    Attributes:
        task: Of the run.
        num_records: Held-out records behind everything here.
        temperature: What logits are divided by; None for numbers.
        ece: Expected calibration error ``before`` and ``after``, the latter cross-fitted; None for numbers.
        loss: Negative log-likelihood, likewise.
        folds: Of the cross-fitting; 0 where there were too few records.
        score: What the conformity scores are.
        scores: Conformity scores of the records, ascending.
        data: Fingerprint of the labelled data.
        source: What the user named.
        created: UTC.
    """

    task: str
    num_records: int
    temperature: float | None
    ece: dict[str, float | None] | None
    loss: dict[str, float | None] | None
    folds: int
    score: str
    scores: list[float]
    data: str
    source: str
    created: str

    def quantile(self, level: float) -> float:
        """See `conformity.conformal_quantile`."""
        return conformal_quantile(self.scores, level)

    @property
    def highest_level(self) -> float:
        """The highest coverage that this many records can give with sets that are not everything."""
        return self.num_records / (self.num_records + 1)

    def statement(self, level: float) -> str:
        """What a set of this level promises, in a sentence."""
        n = self.num_records
        rank = conformal_rank(n, level)
        if rank > n:
            least = math.ceil(round(1 / (1 - level) - 1, 6))
            return (
                f"{n:,} calibration records cannot give {level:g} coverage (that takes {least:,}), so every set is "
                f"everything; their highest level is {self.highest_level:.4g}."
            )
        low, high = stats.beta.interval(0.95, rank, n + 1 - rank)
        return (
            f"A set of level {level:g} holds the true answer with probability {level:g} or more, over new records like "
            f"the {n:,} calibrated on; of this calibration the coverage lies between {low:.3f} and {high:.3f} (95 %)."
        )

    def write(self, run: Path) -> None:
        """Writes the file into a run directory, atomically."""
        promise = "P(true answer in set) >= level; the quantile is the ceil((n + 1) level)-th smallest score"
        write_text(run / FILE, json.dumps({"promise": promise, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, run: Path) -> RunCalibration | None:
        """That of a run, or None.

        Raises:
            RunError: The file is damaged.
        """
        file = run / FILE
        if not file.is_file():
            return None
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            return cls(**{name: facts[name] for name in cls.__dataclass_fields__})
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f'"{file}" is damaged ({error}); write it anew with "pretune calibrate".') from error

    @classmethod
    def of(cls, run: Path | None) -> RunCalibration:
        """That of a run.

        Raises:
            RunError: There is none; gives the command.
        """
        found = None if run is None else cls.read(run)
        if found is None:
            name = "this model" if run is None else f'"{run}"'
            raise RunError(
                f"{name} is not calibrated; first give labelled records that it has not seen: "
                f"pretune calibrate {run or 'RUN'} LABELLED"
            )
        return found


def finisher(
    task: Task, run: Path | None, *, abstain: float | None, calibrated: bool
) -> Callable[[Prediction], Prediction] | None:
    """What adds sets and calibrated probabilities to a prediction; None where neither is asked for.

    Sets come from the model's own probabilities: a temperature that was fitted on the same records would touch the
    promise, and with two classes changes nothing.

    Args:
        task: Of the run.
        run: Its directory.
        abstain: Level of the sets.
        calibrated: Whether probabilities get the temperature.

    Raises:
        ConfigError: The task has no such predictions, or a level outside 0 to 1.
        RunError: The run is not calibrated.
    """
    if abstain is None and not calibrated:
        return None
    check_numbers({"abstain": abstain})
    conformity: Any = task.conformity()
    if calibrated and not conformity.has_probabilities:
        raise ConfigError(f"calibrated has no effect on {task.name}, which gives no probabilities; leave it out.")
    known = RunCalibration.of(run)
    quantile = math.inf if abstain is None else known.quantile(abstain)
    if abstain is not None and math.isinf(quantile):
        say(known.statement(abstain))
    temperature = known.temperature or 1.0

    def finish(prediction: Prediction) -> Prediction:
        if "error" in prediction:
            return prediction
        if abstain is not None:
            prediction = conformity.with_set(prediction, quantile)
        return conformity.rescaled(prediction, temperature) if calibrated else prediction

    return finish
