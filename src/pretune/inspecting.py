"""`inspect`: what pre-training learned and what fine-tuning moved, layer by layer."""

from __future__ import annotations

__all__ = ["inspect", "inspect_command"]

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.checkpoint import write_text
from pretune.drift import drift, layer_names
from pretune.errors import RunError
from pretune.inspected_data import Part, Shown, records_for
from pretune.inspected_run import Inspected, Start, look_into, weights_of
from pretune.inspection import Compared, Inspection, ProbeCurves
from pretune.layer_states import layer_states
from pretune.limits import check_numbers
from pretune.probes import Prober, best
from pretune.progress import say
from pretune.similarity import cka_matrix
from pretune.tasks.base import Task
from pretune.usefulness import Usefulness, usefulness
from pretune.weight_swap import Weights, encoder_weights, holding

NUM_RECORDS = 1000

Layers = list[NDArray[np.float32]]


def inspect(
    run: str,
    *,
    data: Any = None,
    test: Any = None,
    task: str | dict[str, Any] | Task | None = None,
    columns: Mapping[str, str] | None = None,
    against: str | None = None,
    num_records: int = NUM_RECORDS,
    seed: int = 0,
) -> Inspection:
    """Shows where in the network the labels can be read, what training moved, and which blocks a task needs.

    Args:
        run: A run directory of `pretrain` or `finetune`.
        data: Labelled file, folder, Hub name, list of dicts, DataFrame or Dataset; not given: what a fine-tuned run
            was trained on, if it is still there and the same (of a pre-trained run, without labels: no probes).
        test: Labelled data to score on; not given: test or validation data of the run, if `data` is its own, else
            cross-validation.
        task: What the labels of `data` are, for a pre-trained run; not given: classification.
        columns: Column of each role, where the usual names do not fit, e.g. ``{"text": "review"}``.
        against: Another run of the same architecture, whose drift and likeness are shown beside.
        num_records: Most records of `data`, and of `test`.
        seed: Of the choice of records, the folds and the resamples.

    Raises:
        PretuneError: In one sentence, what is wrong with the run, the data or an option.
    """
    check_numbers({"num_records": num_records, "seed": seed})
    looked = look_into(run)
    shown = records_for(looked, data, test, task, columns, num_records, seed)
    other = None if against is None else weights_of(against, looked)
    sets, states = _weights(looked), {}
    if shown is not None:
        states = {name: _states(looked, shown, weights) for name, weights in sets.items()}
    names = layer_names(looked.model)
    compared = [*_compared(looked, shown, states), *_beside(looked, shown, other)]
    notes = looked.notes + ([] if shown is None else shown.notes) + _left_out(looked, shown)
    probes = None if shown is None else _probes(shown, states, seed)
    useful = _useful(looked, shown, names, sets, seed)
    return Inspection(
        run, looked.verb, names, _described(shown), probes, compared, useful, list(dict.fromkeys(notes)), seed
    )


def _weights(run: Inspected) -> dict[str, Weights]:
    """The sets of weights to look at, by what they are called, in order of training."""
    before = "earlier" if run.verb == "pretrain" else "pre-trained"
    start = {} if run.start is None or run.start.random else {before: run.start.weights}
    return {"random": run.random, **start, run.learnt_by: encoder_weights(run.model)}


def _states(run: Inspected, shown: Shown, weights: Weights) -> tuple[Layers, Layers | None]:
    """States of every layer with these weights: of what is learnt from, and of what is scored on."""
    with holding(run.model, weights):
        learn = _of(run, shown, shown.learn)
        return learn, None if shown.held is None else _of(run, shown, shown.held)


def _of(run: Inspected, shown: Shown, part: Part) -> Layers:
    return layer_states(run.model, run.modality, shown.collate, part.examples, part.places)


def _probes(shown: Shown, states: Mapping[str, tuple[Layers, Layers | None]], seed: int) -> ProbeCurves | None:
    if shown.learn.answers is None:
        return None
    prober = Prober(shown.learn.answers, None if shown.held is None else shown.held.answers, seed=seed)
    read = {
        name: [prober.read(layer, None if held is None else held[k]) for k, layer in enumerate(learn)]
        for name, (learn, held) in states.items()
    }
    top = {name: best(curve) for name, curve in read.items()}
    order = list(read)
    gains = {
        f"{new} over {old}": read[new][top[new]].above(read[old][top[old]]) for old, new in itertools.pairwise(order)
    }
    scores = {name: [r.score for r in curve] for name, curve in read.items()}
    return ProbeCurves(prober.scored.metric, prober.how, prober.baseline().score, scores, top, gains)


def _compared(
    run: Inspected, shown: Shown | None, states: Mapping[str, tuple[Layers, Layers | None]]
) -> list[Compared]:
    if run.start is None:
        return []
    moved = drift(run.model, run.start.weights, encoder_weights(run.model))
    alike = None
    if shown is not None:
        # embeddings made from counts are part of a start, and not of random weights
        first = _states(run, shown, run.start.weights) if run.start.random else list(states.values())[1]
        alike = _alike(shown, first, states[run.learnt_by])
    return [Compared(str(run.path), run.start.name, moved, alike)]


def _alike(
    shown: Shown, first: tuple[Layers, Layers | None], second: tuple[Layers, Layers | None]
) -> list[list[float]]:
    """CKA on records that training has not seen, if there are some."""
    side = 0 if shown.held is None else 1
    before, after = first[side], second[side]
    assert before is not None
    assert after is not None
    found: list[list[float]] = cka_matrix(before, after).tolist()
    return found


def _beside(run: Inspected, shown: Shown | None, other: tuple[Weights, Inspected] | None) -> list[Compared]:
    """The run that is shown against this one, and its own start."""
    if other is None or other[1].start is None:
        return []
    weights, found = other
    start: Start = found.start  # type: ignore[assignment]
    alike = None
    if shown is not None:
        first = _states(run, shown, start.weights)
        alike = _alike(shown, first, _states(run, shown, weights))
    return [Compared(str(found.path), start.name, drift(run.model, start.weights, weights), alike)]


def _useful(
    run: Inspected, shown: Shown | None, names: list[str], sets: Mapping[str, Weights], seed: int
) -> Usefulness | None:
    if run.task is None or shown is None:
        return None
    part = shown.held or shown.learn
    others = {name: weights for name, weights in sets.items() if name != run.learnt_by}
    return usefulness(run.task, part.examples, part.labels, names[1:], others, seed=seed)


def _left_out(run: Inspected, shown: Shown | None) -> list[str]:
    if run.task is not None and shown is not None and shown.learn.answers is None:
        return [f"Labels of {run.task.name} are not one a record or word, so that no linear probe reads them."]
    return []


def _described(shown: Shown | None) -> dict[str, Any]:
    if shown is None:
        return {}
    parts = {"learn": shown.learn, "held": shown.held}
    return {k: {"source": p.name, "num_records": len(p.examples)} for k, p in parts.items() if p is not None}


def inspect_command(
    run: str,
    *,
    data: str | None = None,
    test: str | None = None,
    task: str | dict[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    against: str | None = None,
    num_records: int = NUM_RECORDS,
    seed: int = 0,
    out: str | None = None,
    overwrite: bool = False,
) -> int:
    """Shows where in the network the labels can be read, what training moved, and which blocks a task needs.

    Args:
        run: A run directory of pretrain or finetune.
        data: Labelled file, folder or Hub name; not given: what a fine-tuned run was trained on, if it is still there
            and the same (of a pre-trained run, without labels: no probes).
        test: Labelled data to score on; not given: test or validation data of the run, if the data is its own, else
            cross-validation.
        task: What the labels of the data are, for a pre-trained run; not given: classification. With options as JSON.
        columns: Column of each role, where the usual names do not fit.
        against: Another run of the same architecture, whose drift and likeness are shown beside.
        num_records: Most records of data, and of test.
        seed: Of the choice of records, the folds and the resamples.
        out: Folder for inspection.json and the pictures; not given: the run itself.
        overwrite: Replace an earlier inspection.
    """
    folder = Path(run if out is None else out)
    file = folder / "inspection.json"
    if file.exists() and not overwrite:
        raise RunError(f"{file} is there already; give --overwrite to replace it, or another --out.")
    found = inspect(
        run, data=data, test=test, task=task, columns=columns, against=against, num_records=num_records, seed=seed
    )
    found.print()
    folder.mkdir(parents=True, exist_ok=True)
    from pretune.inspection_pictures import draw

    draw(found, folder / "inspection")
    write_text(file, json.dumps(found.to_dict(), indent=2) + "\n")
    say(f"wrote {file} and {folder / 'inspection'}")
    return 0
