"""`evaluate`: a run on labelled held-out records: metrics, and on request abstention and robustness; its files."""

from __future__ import annotations

__all__ = ["evaluate", "evaluate_command"]

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pretune import data as data_io
from pretune.abstaining import abstention
from pretune.certainty_pictures import reliability_picture, risk_picture, shift_picture
from pretune.checkpoint import lineage_of, write_text
from pretune.errors import DataError
from pretune.evaluation import Evaluation, binned, judge, predictions
from pretune.finetuning import labelled
from pretune.limits import check_numbers
from pretune.memory_rows import dataset_rows
from pretune.predicting import load
from pretune.progress import say
from pretune.run_calibration import RunCalibration
from pretune.shifts import shifted
from pretune.sources import STDIN


def evaluate(
    run: str,
    data: Any,
    *,
    columns: Mapping[str, str] | None = None,
    abstain: float | None = None,
    shift: bool = False,
    seed: int = 0,
    task: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Scores a fine-tuned run on labelled held-out data.

    Args:
        run: A run directory of `finetune`.
        data: Labelled file, folder, Hub name, list of dicts, DataFrame or Dataset.
        columns: Column of each role, where the usual names do not fit, e.g. ``{"text": "review"}``.
        abstain: Coverage, such as 0.95: also judges the sets that `predict` gives at this level.
        shift: Also predict the records under the usual corruptions of their modality.
        seed: Of the bootstrap behind the intervals, and of the corruptions.
        task: Options of the run's task that prediction reads, such as ``{"decoder": "beam"}`` of ctc.

    Returns:
        Metrics with bootstrap intervals, confusion matrix, calibration, and what was asked for.

    Raises:
        DataError: The data cannot be used; or sets are to be judged on the records that they come from.
        RunError: There is no such run; or it is not calibrated and sets are asked for.
    """
    check_numbers({"seed": seed, "abstain": abstain})
    predictor = load(run, task=task)
    trained = predictor.task
    conformity = None if abstain is None else trained.conformity()
    known = RunCalibration.read(Path(run)) if abstain is None else RunCalibration.of(Path(run))
    content = None if isinstance(data, str) and data == STDIN else data_io.fingerprint(trained.source(data))
    if content is not None and content == lineage_of(Path(run)).get("data", {}).get("train"):
        say(f"{run} was trained on these records: what follows says how well it remembers them; give others")
    if known is not None and known.data == content:
        if abstain is not None:
            raise DataError("The run was calibrated on these records, whose coverage proves nothing; give others.")
        known = None
    held = labelled(data, trained, predictor.modality, dict(columns or {}))
    predicted = predictions(trained, held.examples)
    found = judge(trained, predicted, held.labels, seed=seed)
    if known is not None and known.temperature is not None and found.calibration is not None:
        of = trained.conformity()
        cooled = [of.rescaled(p, known.temperature) for p in predicted]
        found = replace(found, calibrated=binned(*of.reliability(cooled, held.labels)))
    if conformity is not None and abstain is not None and known is not None:
        quantile = known.quantile(abstain)
        if math.isinf(quantile):
            say(known.statement(abstain))
        judged = abstention(conformity, predicted, held.labels, level=abstain, quantile=quantile)
        found = replace(found, abstention=judged)
    if shift:
        rows = list(dataset_rows(held.records))
        found = replace(found, shift=shifted(trained, rows, held.labels, predicted, seed=seed))
    return found


def evaluate_command(
    run: str,
    data: str,
    *,
    columns: Mapping[str, str] | None = None,
    abstain: float | None = None,
    shift: bool = False,
    seed: int = 0,
    task: Mapping[str, Any] | None = None,
    out: str | None = None,
) -> int:
    """Scores a fine-tuned run on labelled held-out data.

    Args:
        run: A run directory of `pretune finetune`.
        data: Labelled file, folder or Hub name.
        columns: Column of each role, where the usual names do not fit.
        abstain: Coverage, such as 0.95: also judges the sets that `predict` gives; needs `pretune calibrate`.
        shift: Also predict the records under the usual corruptions of their modality.
        seed: Of the bootstrap behind the intervals, and of the corruptions.
        task: An option of the run's task that prediction reads, such as --task.decoder beam of ctc.
        out: Folder for evaluation.json and pictures of what is printed.
    """
    found = evaluate(run, data, columns=columns, abstain=abstain, shift=shift, seed=seed, task=task)
    found.print()
    if out is not None:
        _write(found, Path(out))
        say(f"wrote {out}")
    return 0


def _write(found: Evaluation, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "evaluation.json", json.dumps(_finite(found.to_dict()), indent=2) + "\n")
    if found.confusion is not None:
        found.confusion.plot(folder / "confusion.png")
    if found.calibration is not None:
        bins = {"as predicted": found.calibration.bins}
        bins |= {} if found.calibrated is None else {"with temperature": found.calibrated.bins}
        reliability_picture(bins, folder / "calibration.png")
    sets = found.abstention
    if sets is not None and sets.risk and sets.abstained is not None and sets.answered is not None:
        answers = sets.answered.n > 0
        mark = (1 - sets.abstained.value, 1 - sets.answered.value) if answers else None
        risk_picture(sets.risk, mark, folder / "abstention.png")
    if found.shift is not None:
        shift_picture(found.shift.lines, found.shift.clean, found.shift.metric, folder / "shift.png")


def _finite(value: Any) -> Any:
    """JSON has no infinite and no undefined numbers: they become null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
