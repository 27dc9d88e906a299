"""`finetune`: labelled data, a head, a strategy, fit; the best weights by validation are what is saved."""

from __future__ import annotations

__all__ = ["VALID_RATE", "finetune", "labelled", "parts_of"]

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from pretune import data as data_io
from pretune import encoder, evaluation, machine, registry
from pretune.budget import Budget
from pretune.checkpoint import RunDirectory, write_text
from pretune.columns import check_roles, preferring
from pretune.errors import ConfigError, DataError, RunError
from pretune.intervals import mean_interval
from pretune.known_inputs import say_known
from pretune.labelled_examples import Labelled, processed, raw_labels
from pretune.limits import check_numbers
from pretune.lineage import lineage, warn_if_unlearnt
from pretune.modalities.base import Modality, truncated
from pretune.objectives.base import require_kind
from pretune.pretraining import (
    SIZE,
    RunResult,
    check_model,
    export,
    fingerprints,
    keep,
    only_from_scratch,
    prepare,
    recipe_of,
    refuse_changed,
)
from pretune.progress import say
from pretune.reporting.section import is_share
from pretune.sources import Layout
from pretune.splits import folds
from pretune.strategies.base import Strategy
from pretune.tasks.base import Task
from pretune.train import check_options
from pretune.tuning import Folds, check_strategies, ready_to_train, train
from pretune.unread_columns import say_unread

VALID_RATE = 0.1


def finetune(
    data: Any,
    *,
    out: str,
    task: str | dict[str, Any] | Task = "classification",
    modality: str | dict[str, Any] | Modality = "text",
    from_: str | None = None,
    scratch: bool = False,
    strategy: str | dict[str, Any] | Strategy | Sequence[Strategy] = "full",
    size: str | None = None,
    family: str | None = None,
    budget: str = "10epochs",
    min_steps: int | None = None,
    valid: Any = None,
    valid_rate: float | None = None,
    test: Any = None,
    columns: Mapping[str, str] | None = None,
    batch_size: int = 16,
    lr: float | None = None,
    seed: int = 0,
    seeds: int = 1,
    overwrite: bool = False,
    **loop: Any,
) -> RunResult:
    """Fine-tunes a pre-trained encoder on labelled data.

    Args:
        data: Labelled file, folder, Hub name, or (in Python) a list of dicts, DataFrame or Dataset.
        out: The run directory to write.
        task: What the labels are; `pretune list` names them.
        modality: What the data is.
        from_: The run, model directory or Hub name to start from.
        scratch: Start from random weights instead (the control); with `from_`, of its architecture and tokenizer.
        strategy: How pre-trained weights may move; several as ``l2sp+layer_decay``.
        size: Size preset when there is no `from_`; not given: mini.
        family: Architecture when there is no `from_`; not given: modernbert, for images resnet.
        budget: When to stop: 10epochs, 500steps, 5m.
        min_steps: Least steps for a budget in epochs: few labels need enough steps (Mosbach et al. 2021); not
            given: 200.
        valid: Labelled validation data, which chooses the weights that are kept.
        valid_rate: Share of `data` held out for that when `valid` is not given; by label, or by the ``group`` column.
            0 trains on every label and keeps the last weights; not given: 0.1.
        test: Labelled test data to report on at the end.
        columns: Column of each role, where the usual names do not fit, e.g. ``{"text": "review"}``; ``group`` names
            the column whose values must not be in both training and validation.
        batch_size: Examples in an optimiser step.
        lr: Peak learning rate; not given: 0.04 / width (all weights of a ResNet: 0.25 / width), times 3 for ctc, 4 for
            all weights of detection and segmentation, 30 for a probe, 10 for LoRA and the probe of LP-FT.
        seed: Of the head, the split, the data order and dropout.
        seeds: Repeat with this many seeds, counted up from `seed`; reports mean and interval.
        overwrite: Replace an earlier run in `out`; an interrupted one with the same options goes on all the same.
        loop: What `pretune.train.fit` takes: schedule, patience, ema, precision, checkpoint_every ...

    Raises:
        PretuneError: In one sentence, what is wrong with the data, an option, the checkpoint or the run directory.
    """
    if from_ is None and not scratch:
        raise ConfigError("finetune starts from a pre-trained model: give --from, or --scratch for random weights.")
    check_options(budget, batch_size, loop)
    check_numbers(locals())
    only_from_scratch(from_, size=size, family=family)
    _check_without_effect(budget, min_steps, valid, valid_rate, loop)
    if (Path(out) / "seeds.json").exists() and not overwrite:
        raise RunError(f"{out} holds a finished run; give another --out, or --overwrite to replace it.")
    options = {k: v for k, v in locals().items() if k not in ("out", "seed", "seeds", "loop")}
    specs = {k: registry.spec(options.pop(k)) for k in ("task", "modality", "strategy")}
    results = []
    for k in range(seeds):
        folder = out if k == 0 else str(Path(out) / "seeds" / str(seed + k))
        results.append(_once(out=folder, seed=seed + k, seeds=seeds, **specs, **options, **loop))
    return _summary(results, seed) if seeds > 1 else results[0]


def _check_without_effect(
    budget: str, min_steps: int | None, valid: Any, valid_rate: float | None, loop: Mapping[str, Any]
) -> None:
    if min_steps is not None and Budget.parse(budget).unit != "epochs":
        raise ConfigError(f"min_steps is for a budget in epochs; with {budget} it has no effect: leave it out.")
    if valid is not None and valid_rate is not None:
        raise ConfigError("valid_rate has no effect with --valid, which is the validation data; leave one of them out.")
    if valid is None and valid_rate == 0:
        for name, default in (("patience", 0), ("num_validations", 10)):
            if loop.get(name, default) != default:
                raise ConfigError(f"{name} has no effect without validation; leave it out, or give --valid.")


def _once(
    data: Any,
    *,
    out: str,
    task: Any,
    modality: Any,
    from_: str | None,
    scratch: bool,
    strategy: Any,
    size: str | None,
    family: str | None,
    budget: str,
    min_steps: int | None,
    valid: Any,
    valid_rate: float | None,
    test: Any,
    columns: Mapping[str, str] | None,
    batch_size: int,
    lr: float | None,
    seed: int,
    seeds: int,
    overwrite: bool,
    **loop: Any,
) -> RunResult:
    method: Task = registry.build("task", task)
    source: Modality = registry.build("modality", modality)
    require_kind(method, source, registry.classes("task"))
    method.check(source)
    recipe = recipe_of(locals(), "finetune", data=data, valid=valid, test=test, task=method, modality=source, loop=loop)
    recipe["strategy"] = strategy
    strategies: list[Strategy] = registry.build_all("strategy", strategy)
    check_strategies(strategies, validation=valid is not None or valid_rate != 0)
    if any(s.frozen_throughout for s in strategies):
        refuse_changed(source, source.augmenting, "with a frozen encoder, which sees each record once, unchanged")
    if valid is not None or valid_rate == 0:
        refuse_changed(source, source.splitting, "where no validation data is split off")
    check_model(source, from_, size, family)
    refuse_changed(source, source.unlabelled, "on labelled data")
    named = {"train": data, "valid": valid, "test": test}
    run, contents = RunDirectory(out), fingerprints(**{k: method.source(v) for k, v in named.items()})
    if seeds > 1 and not (run.path / "seeds.json").exists() and (facts := run.done(recipe, contents)):
        return RunResult(run.path, facts["metrics"] | facts["test"])  # of an interrupted repetition
    with machine.main_first():
        going_on = run.check(recipe, data=contents, overwrite=overwrite)
        method.modality = source
        rate_held = VALID_RATE if valid_rate is None else valid_rate
        parts = parts_of(data, valid, test, rate_held, method, source, dict(columns or {}), seed)
        told = parts[:1] if valid is not None else parts[:2]  # a class may lie in what is held out of the data alone
        method.learn_labels([label for part in told for label in raw_labels(part, method)])
        prepare(source, parts[0], from_, run.path / "modality" if going_on else None)
        method.check(source)  # again: a checkpoint has a tokenizer of its own
        seen, kept, final = (processed(part, method, source, learn=part is parts[0]) for part in parts)
        _say_truncated(method, source, sum(map(len, parts)))
        cut = _folds(seen.records, method, source, strategies, seed)
        ready = ready_to_train(method, source, strategies, _weights(from_, scratch, source, size, family), lr, seed)
        # only now is anything written: what is wrong with the data or the model was found before
        state = run.open(recipe, data=contents, overwrite=overwrite)
        if from_ is None:
            keep(source, run.path / "modality")
    say(f"{len(seen.labels)} labelled records, {len(kept.labels)} for validation; {ready.report}; lr {ready.lr:.3g}")
    fitted = train(
        ready, seen.examples, kept.examples, kept.labels, run=run, state=state, budget=budget, min_steps=min_steps,
        batch_size=batch_size, seed=seed, labels=seen.labels, folds=cut, **loop,
    )  # fmt: skip
    metrics: dict[str, Any] = dict(fitted.best)
    if test is not None:
        metrics |= _test(method, final, run)
    facts = lineage(
        recipe,
        fitted,
        verb="finetune",
        data=contents,
        parent=from_,
        roles=method.used,
        transfer=str(ready.report),
        scratch=scratch,
        lr=fitted.lr,
        test={k: v for k, v in metrics.items() if k.startswith("test_")},
    )
    export(run, method, source, facts)
    say(f"wrote {run.model}")
    return RunResult(run.path, metrics, fitted)


def _weights(
    from_: str | None, scratch: bool, source: Modality, size: str | None, family: str | None
) -> encoder.Source:
    if from_ is None:
        return source.config(size or SIZE, family or source.family)
    if scratch:
        return encoder.read_config(from_)
    warn_if_unlearnt(from_)
    return from_


def parts_of(
    data: Any,
    valid: Any,
    test: Any,
    rate: float,
    task: Task,
    source: Modality,
    columns: dict[str, str],
    seed: int,
) -> tuple[Dataset, Dataset, Dataset]:
    """Training, validation and test records; what is not there has no rows. Sets ``task.used``."""
    check_roles(columns, [*task.input_roles(source), task.label_role, "group"])
    group = columns.pop("group", None)
    records = _read(data, task, source, columns | ({"group": group} if group else {}), source.groups)
    say_unread(task.source(data), task.input_roles(source), columns)
    task.used = _used(records, task, source)
    none = records.select([])
    tested = none if test is None else _read(test, task, source, columns, source.groups)
    _say_shared(records, tested)
    say_known(records, tested, "test", task, source)
    if valid is not None:
        given = _read(valid, task, source, columns)
        say_known(records, given, "validation", task, source)
        return records, given, tested
    if rate == 0:
        return records, none, tested
    if "group" in records.column_names and not group:
        _say_grouped(records)
    records = _grouped(records, source)
    kept, held = data_io.split(records, rate=rate, seed=seed, **_kept_apart(records, task))
    say_known(kept, held, "held-out", task, source)
    return kept, held, tested


def _grouped(records: Dataset, source: Modality) -> Dataset:
    """The records with a column ``group``, where they have one or show one themselves."""
    if "group" not in records.column_names and (near := source.related(records)) is not None:
        return records.add_column("group", near)
    return records


def _kept_apart(records: Dataset, task: Task) -> dict[str, str | None]:
    """What a split keeps the share of, and which column it keeps whole."""
    return {
        "label": task.label_role if task.stratified else None,
        "group": "group" if "group" in records.column_names else None,
    }


def _folds(records: Dataset, task: Task, source: Modality, strategies: Sequence[Strategy], seed: int) -> Folds:
    """Folds of the training records, where a strategy wants some."""
    num = max(s.num_folds for s in strategies)
    if not num:
        return []
    grouped = _grouped(records, source)
    return folds(grouped, num=num, seed=seed, **_kept_apart(grouped, task))


def _say_shared(train: Dataset, test: Dataset) -> None:
    if "group" in train.column_names and "group" in test.column_names:
        known = set(train["group"])
        both = sorted({str(g) for g in test["group"] if g in known})
        if both:
            some = ", ".join(both[:5]) + (" ..." if len(both) > 5 else "")
            say(f"{len(both)} speakers of the test data are also in the training data ({some}): new ones are harder")


def _say_grouped(records: Dataset) -> None:
    speakers = sorted({str(g) for g in records["group"]})
    if len(speakers) < 2:
        raise DataError(
            f'All {len(records)} recordings are of the speaker "{speakers[0]}", so none can be held out; give --valid, '
            "--valid_rate 0, or --modality.shared_speakers true."
        )
    say(f"validation holds out whole speakers, of {len(speakers)} (--modality.shared_speakers true mixes them)")


def _used(records: Dataset, task: Task, source: Modality) -> list[str]:
    """The input roles that the records have, if there is no choice (words or text).

    Raises:
        DataError: Some records are pairs and others are not; names the first without its second input.
    """
    if task.roles is not None:
        return []
    found = [role for role in task.input_roles(source) if role in records.column_names]
    for role in found:
        values = records.data.column(role)
        empty = values.is_null() if values.type != pa.string() else pc.fill_null(pc.equal(values, ""), True)
        if (lacking := empty.index(True).as_py()) >= 0:
            row = records[lacking]
            raise DataError(
                f"{row['_file']}, row {row['_row']}: the {role} is empty, and other records have one; fill it in or "
                "delete the row, or rename the column, so that it is not read."
            )
    return found


def _read(data: Any, task: Task, source: Modality, columns: dict[str, str], groups: Sequence[str] = ()) -> Dataset:
    roles = task.input_roles(source) | {task.label_role: task.label_columns} | ({"group": groups} if groups else {})
    roles = preferring(roles, task.named)
    found = task.source(data)
    if isinstance(found, Layout) and found.ignored:
        say(f"{found.unpaired}: left out")
    return data_io.read_records(found, roles=roles, columns=columns, required=task.required_roles(source))


def labelled(data: Any, task: Task, source: Modality, columns: dict[str, str]) -> Labelled:
    """Reads and processes labelled data for a task that knows its labels.

    Raises:
        DataError: Data that cannot be read, or a label that the task does not know; names file and row.
    """
    check_roles(columns, [*task.input_roles(source), task.label_role])
    say_unread(task.source(data), task.read_roles(source), columns)
    found = processed(_read(data, task, source, columns), task, source)
    _say_truncated(task, source, len(found.labels))
    return found


def _say_truncated(task: Task, source: Modality, total: int) -> None:
    if task.truncates and source.num_truncated:
        say(truncated(source, total))


def _test(task: Task, final: Labelled, run: RunDirectory) -> dict[str, Any]:
    found = evaluation.evaluate(task, final.examples, final.labels)
    if machine.is_main():
        write_text(run.path / "test.json", json.dumps(found.to_dict(), indent=2) + "\n")
    return {f"test_{k}": v for k, v in found.metrics.items()}


def _summary(results: Sequence[RunResult], seed: int) -> RunResult:
    """Mean and interval of every metric over the seeds, in seeds.json beside the first seed's model."""
    rows = [r.metrics for r in results]
    metrics: dict[str, Any] = {}
    for name in rows[0]:
        mean = mean_interval([float(r[name]) for r in rows])
        if is_share(name) and not name.endswith(("wer", "cer")):  # error rates may be above 1
            mean = mean.within(0.0, 1.0)
        metrics[name] = mean.value
        metrics[f"{name}_low"], metrics[f"{name}_high"] = mean.low, mean.high
        say(f"{name}: {mean.value:.4f} [{mean.low:.4f}, {mean.high:.4f}] over {len(rows)} seeds")
    facts = {"seeds": [seed + k for k in range(len(rows))], "runs": rows, "summary": metrics}
    if machine.is_main():
        write_text(results[0].path / "seeds.json", json.dumps(facts, indent=2) + "\n")
    return RunResult(results[0].path, metrics, results[0].fitted)
