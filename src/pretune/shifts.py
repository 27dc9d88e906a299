"""What a run loses when test records are spoilt as data often is: each corruption of the modality."""

from __future__ import annotations

__all__ = ["MOST", "Shift", "ShiftReport", "shifted"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from pretune.corruptions.base import corrupted
from pretune.errors import ConfigError
from pretune.evaluation import predictions
from pretune.intervals import LEVEL, Interval
from pretune.progress import say
from pretune.resampling import scored
from pretune.tasks.base import Prediction, Task

MOST = 1000
"""Records that are corrupted: 18 predictions of a large test file would take hours."""


@dataclass(frozen=True)
class Shift:
    """One corruption at one severity.

    Attributes:
        corruption: Its name.
        severity: From 1, mild to strong.
        parameter: What that means.
        value: The metric on the corrupted records.
        loss: Clean - corrupted, over the same resampled records; above 0 is worse.
    """

    corruption: str
    severity: int
    parameter: str
    value: float
    loss: Interval


@dataclass(frozen=True)
class ShiftReport:
    """All corruptions of a modality.

    Attributes:
        metric: The task's primary one.
        clean: Its value without corruption.
        num_records: That were corrupted.
        seed: Of the draw of records, of the corruptions and of the resampling.
        rows: By corruption, mild to strong.
    """

    metric: str
    clean: float
    num_records: int
    seed: int
    rows: list[Shift]

    @property
    def lines(self) -> dict[str, list[Shift]]:
        """The rows of each corruption."""
        found: dict[str, list[Shift]] = {}
        for row in self.rows:
            found.setdefault(row.corruption, []).append(row)
        return found

    @property
    def title(self) -> str:
        """What was measured, on how many records, and the value without corruption."""
        return f"robustness of {self.num_records:,} records: {self.metric}, {self.clean:.4f} without corruption"

    def table(self) -> Table:
        """For the terminal; losses whose interval lies above 0 are bold."""
        table = Table("corruption", "severity", title=self.title)
        for name in (self.metric, "loss", f"{LEVEL:.0%} interval, paired"):
            table.add_column(name, justify="right")
        for row in self.rows:
            loss = f"{row.loss.value:+.4f}"
            table.add_row(
                row.corruption if row.severity == 1 else "",
                row.parameter,
                f"{row.value:.4f}",
                f"[bold]{loss}[/]" if row.loss.low > 0 else loss,
                f"{row.loss.low:+.4f} – {row.loss.high:+.4f}",
            )
        return table


def shifted(
    task: Task, records: Sequence[Mapping[str, Any]], labels: Sequence[Any], clean: Sequence[Prediction], *, seed: int
) -> ShiftReport:
    """Predicts the records under each corruption of their modality, through the whole preprocessing.

    Each corruption and severity is another prediction of all records: of more than `MOST`, so many drawn at random
    are taken.

    Args:
        task: A task with its model.
        records: Columns named by role, at least two.
        labels: Raw labels, same order.
        clean: Predictions of the records as they are.
        seed: Of the corruptions and of the resampling.

    Raises:
        ConfigError: The modality states no corruptions.
    """
    known = task.modality.corruptions()
    if not known:
        raise ConfigError(f"The modality {task.modality.name} states no corruptions; leave --shift out.")
    if len(records) > MOST:
        say(f"shift: {MOST:,} of {len(records):,} records, drawn at random")
        chosen = np.sort(np.random.default_rng(seed).choice(len(records), MOST, replace=False)).tolist()
        records, labels, clean = ([part[i] for i in chosen] for part in (records, labels, clean))
    metric, rows = task.primary, []
    whole = scored(task, clean, labels, metric, seed=seed)
    for corruption in known:
        say(f"shift: {corruption.name}")
        for k in range(len(corruption.severities)):
            predicted = predictions(task, task.process(corrupted(corruption, k, records, seed)))
            found = scored(task, predicted, labels, metric, seed=seed)
            rows.append(Shift(corruption.name, k + 1, corruption.parameter(k), found.value, whole.less(found)))
    return ShiftReport(metric, whole.value, len(records), seed, rows)
