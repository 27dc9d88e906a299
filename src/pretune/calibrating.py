"""`calibrate`: temperature and conformity scores of a run, from labelled records that it has not seen."""

from __future__ import annotations

__all__ = ["calibrate", "calibrate_command"]

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pretune import data as data_io
from pretune.checkpoint import lineage_of
from pretune.conformity import Conformity, Floats
from pretune.embedding import read_recipe
from pretune.errors import DataError, RunError
from pretune.evaluation import binned, predictions
from pretune.finetuning import labelled
from pretune.labelled_examples import Labelled
from pretune.limits import check_numbers
from pretune.overlap import seen_in_training
from pretune.predicting import Predictor, load
from pretune.progress import say
from pretune.run_calibration import FILE, RunCalibration
from pretune.tasks.base import Prediction
from pretune.temperature import class_loss, fitted_temperature, label_loss

_FOLDS = 5
_LEVELS = (0.8, 0.9, 0.95, 0.99)


def calibrate(
    run: str, data: Any, *, columns: Mapping[str, str] | None = None, seed: int = 0, overwrite: bool = False
) -> RunCalibration:
    """Finds out on labelled records how sure a run may be, and writes RUN/calibration.json.

    One temperature for all logits (Guo et al. 2017), and the scores from which sets of any coverage follow
    (split-conformal prediction). The errors "after" are cross-fitted: no record is judged by a temperature that it
    helped to fit.

    Args:
        run: A run directory of `finetune`, of classification or regression.
        data: Labelled records that the run has not been trained on or chosen by, and that `evaluate` will not use.
        columns: Column of each role, where the usual names do not fit, e.g. ``{"text": "review"}``.
        seed: Of the folds.
        overwrite: Replace an earlier calibration.

    Raises:
        ConfigError: The task has no such predictions.
        DataError: The data is that of the training, or cannot be read.
        RunError: There is no such run, or it is calibrated already.
    """
    check_numbers({"seed": seed})
    predictor = load(run, precision="fp32")
    conformity = predictor.task.conformity()
    if (Path(run) / FILE).exists() and not overwrite:
        raise RunError(f'"{run}" is calibrated already; give --overwrite to replace its {FILE}.')
    content = data_io.fingerprint(predictor.task.source(data))
    _refuse_seen(Path(run), content)
    held = _unseen(predictor, labelled(data, predictor.task, predictor.modality, dict(columns or {})))
    found = predictions(predictor.task, held.examples)
    facts = _facts(conformity, found, held.labels, seed)
    known = RunCalibration(
        task=predictor.task.name,
        num_records=len(found),
        score=conformity.name,
        scores=np.sort(conformity.scores(found, held.labels)).tolist(),
        data=content,
        source=str(data) if isinstance(data, str | Path) else f"in memory: {content}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    )
    known.write(Path(run))
    return known


def _refuse_seen(run: Path, content: str) -> None:
    contents = lineage_of(run).get("data", {})
    for role, what in (("train", "trained on"), ("valid", "chosen by")):
        if contents.get(role) == content:
            raise DataError(
                f"These are the records that the run was {what}, on which it is surer than it is right; give others."
            )
    if contents.get("test") == content:
        say("this is the run's test data: figures on it are no longer held out once the run is calibrated on it")


def _unseen(predictor: Predictor, held: Labelled) -> Labelled:
    """The records that the run was not trained on; says how many were left out."""
    assert predictor.path is not None
    recipe = read_recipe(predictor.path)
    contents = lineage_of(predictor.path).get("data", {})
    seen, complete = seen_in_training(held.records, predictor.task, predictor.modality, recipe, contents)
    if not complete:
        say("the training data has moved or changed, so whether these records are among it could not be looked up")
    if not seen:
        return held
    if len(seen) == len(held.labels):
        raise DataError(f"All {len(seen):,} records are among those that the run was trained on; give others.")
    say(f"{len(seen):,} of {len(held.labels):,} records are also in the training data and were left out")
    kept = [i for i in range(len(held.labels)) if i not in seen]
    return Labelled(held.records.select(kept), [held.labels[i] for i in kept], [held.examples[i] for i in kept])


def _facts(conformity: Conformity, predicted: Sequence[Prediction], labels: Sequence[Any], seed: int) -> dict[str, Any]:
    """``temperature``, ``ece``, ``loss`` and ``folds``."""
    if not conformity.has_probabilities:
        return {"temperature": None, "ece": None, "loss": None, "folds": 0}
    logits, targets = conformity.logits(predicted), conformity.targets(predicted, labels)
    loss = label_loss if targets.ndim == 2 else class_loss
    folds = min(_FOLDS, len(labels)) if len(labels) >= 2 * _FOLDS else 0
    facts: dict[str, Any] = {
        "temperature": fitted_temperature(logits, targets),
        "ece": {"before": _error(conformity, predicted, labels), "after": None},
        "loss": {"before": loss(logits, targets), "after": None},
        "folds": folds,
    }
    if folds:
        each = cross_fitted(logits, targets, folds, seed)
        cooled = [conformity.rescaled(p, t) for p, t in zip(predicted, each.tolist(), strict=True)]
        facts["ece"]["after"] = _error(conformity, cooled, labels)
        facts["loss"]["after"] = loss(logits / each[:, None], targets)
    return facts


def cross_fitted(logits: Floats, targets: NDArray[np.int64], folds: int, seed: int) -> Floats:
    """A temperature for every record, shape (records,), fitted on the other folds alone."""
    part = np.random.default_rng(seed).permutation(len(targets)) % folds
    found = np.ones(len(targets))
    for k in range(folds):
        found[part == k] = fitted_temperature(logits[part != k], targets[part != k])
    return found


def _error(conformity: Conformity, predicted: Sequence[Prediction], labels: Sequence[Any]) -> float:
    return binned(*conformity.reliability(predicted, labels)).ece


def calibrate_command(
    run: str, data: str, *, columns: Mapping[str, str] | None = None, seed: int = 0, overwrite: bool = False
) -> int:
    """Finds out on labelled records how sure a run may be, and writes RUN/calibration.json.

    Args:
        run: A run directory of `pretune finetune`, of classification or regression.
        data: Labelled records that the run has not been trained on, and that `evaluate` will not use.
        columns: Column of each role, where the usual names do not fit.
        seed: Of the folds behind the errors "after".
        overwrite: Replace an earlier calibration.
    """
    found = calibrate(run, data, columns=columns, seed=seed, overwrite=overwrite)
    console = Console(highlight=False)
    console.print(*_shown(found), sep="\n", soft_wrap=True)
    say(f"wrote {Path(run) / FILE}")
    return 0


def _shown(found: RunCalibration) -> list[Any]:
    lines: list[Any] = []
    if found.temperature is not None and found.ece is not None and found.loss is not None:
        sure = "too sure" if found.temperature > 1 else "not sure enough" if found.temperature < 1 else "as it was"
        after = {k: "not known (too few records)" if v["after"] is None else f"{v['after']:.3f}" for k, v in
                 (("ece", found.ece), ("loss", found.loss))}  # fmt: skip
        lines.append(f"temperature {found.temperature:.3f} (the model was {sure})")
        lines.append(f"expected calibration error {found.ece['before']:.3f}, with the temperature {after['ece']}")
        lines.append(f"log-loss {found.loss['before']:.3f}, with the temperature {after['loss']}")
        if found.folds:
            lines.append(f"(the latter cross-fitted over {found.folds} folds of {found.num_records:,} records)")
        before, cooled = found.loss["before"], found.loss["after"]
        if before is not None and cooled is not None and cooled >= before:
            lines.append("cross-fitted, the temperature does not help: leave --calibrated out")
    table = Table("level", "quantile", title=f"score: {found.score}")
    for level in _LEVELS:
        quantile = found.quantile(level)
        table.add_row(f"{level:g}", "everything" if np.isinf(quantile) else f"{quantile:.4g}")
    return [*lines, table, found.statement(0.95)]
