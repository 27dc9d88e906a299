"""`pretune index`: the vectors of a run's labelled data and of the unlabelled data that it was pre-trained on."""

from __future__ import annotations

__all__ = ["index"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pretune import registry
from pretune.columns import check_roles
from pretune.data import stream_records
from pretune.embedding import Embedder, model_fingerprint, read_recipe, unit
from pretune.errors import ConfigError, DataError, RunError
from pretune.gathering import Gathered, gather
from pretune.limits import check_numbers, check_range
from pretune.modalities.base import Modality
from pretune.neighbour_index import FOLDER, Index, Shown
from pretune.novelty import LEAST
from pretune.pool_novelty import MOST, PoolNovelty
from pretune.predicting import Predictor, load
from pretune.progress import say
from pretune.reservoir import sampled
from pretune.run_data import RunData, labelled_data, pool_data

_NONE = Gathered(np.zeros((0, 0), dtype=np.float32), [])


def index(
    run: str,
    *,
    labelled: Any = None,
    pool: Any = None,
    num_pool: int = 20_000,
    share: float = 0.95,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Index:
    """Embeds labelled data and a sample of the pre-training data, for `explain --nearest` and `predict --ood`.

    Args:
        run: A run directory of `finetune` or `pretrain`.
        labelled: Labelled data whose records are shown beside predictions; not given: what the run was trained on.
        pool: Unlabelled data; not given: what the run, or the one that it started from, was pre-trained on.
        num_pool: Most records of the pool, drawn at random; 0 leaves the pool out.
        share: Share of records like those of the pool that `predict --ood` should not flag.
        columns: Column of each role of `labelled` and `pool`, where the usual names do not fit.
        seed: Of what is drawn.
        overwrite: Replace an earlier index of the run.

    Returns:
        The index, written to RUN/neighbours.

    Raises:
        PretuneError: In one sentence, what is wrong with the run, the data or an option.
    """
    path, recipe = _checked(run, labelled, pool, num_pool, share, columns, seed, overwrite)
    predictor = load(run) if "task" in recipe else None
    embedder = Embedder.load(run) if predictor is None else Embedder.of(predictor.task)
    known = None if predictor is None else labelled_data(path, recipe, labelled, columns)
    unknown = pool_data(path, recipe, pool, columns) if num_pool else None
    if known is None and unknown is None:
        raise DataError(
            f'There is nothing to put into an index of "{run}": neither its training data nor its pre-training data '
            "is where it was; give --labelled or --pool."
        )
    say("embedding; this takes a pass of the encoder for each record")
    found = _gather(embedder, predictor, known, unknown, num_pool, seed)
    made = _index(found, embedder, share, seed)
    facts: dict[str, Any] = {
        "run": run,
        "encoder": model_fingerprint(path / "model"),
        "share": share,
        "seed": seed,
    }
    facts |= {"sources": {n: s.facts for n, s in (("labelled", known), ("pool", unknown)) if s is not None}}
    held = 0 if made.novelty is None else len(made.novelty.novelty.held)
    facts |= {"num_labelled": len(made.labelled), "num_pool": len(made.pool), "num_held_out": held}
    made.facts.update(facts)
    say(f"wrote {made.save(path)}")
    return made


def _checked(
    run: str,
    labelled: Any,
    pool: Any,
    num_pool: int,
    share: float,
    columns: Mapping[str, str] | None,
    seed: int,
    overwrite: bool,
) -> tuple[Path, dict[str, Any]]:
    """The run and its recipe, once the options are known to make sense together."""
    check_numbers({"seed": seed, "num_pool": num_pool})
    check_range("share", share, 0.5, 0.999)
    if num_pool == 0 and pool is not None:
        raise ConfigError("--pool has no effect with --num_pool 0, which leaves it out; leave one of them out.")
    path = Path(run)
    recipe = read_recipe(path)
    if (path / FOLDER).exists() and not overwrite:
        raise RunError(f'"{path / FOLDER}" exists; give --overwrite to make it again.')
    if columns and labelled is None and pool is None:
        raise ConfigError("--columns are of --labelled and --pool; a run's own data has those of its recipe.")
    if "task" not in recipe and labelled is not None:
        raise ConfigError(f'--labelled is for a run of finetune, and "{run}" is one of pretrain; leave it out.')
    return path, recipe


def _gather(
    embedder: Embedder,
    predictor: Predictor | None,
    known: RunData | None,
    unknown: RunData | None,
    num_pool: int,
    seed: int,
) -> dict[str, Gathered]:
    """What was read of the labelled data and of the pool; said, too."""
    found: dict[str, Gathered] = {}
    if known is not None and predictor is not None:
        found["labelled"] = _labelled(embedder, predictor, known)
    if unknown is not None:
        reader: Modality = registry.build("modality", unknown.modality)
        reader.columns = unknown.columns
        letters = [row["num_letters"] for row in found.get("labelled", _NONE).shown if "num_letters" in row]
        length = int(np.median(letters)) if letters else None
        rows = sampled(reader.unlabelled_records(unknown.source, length=length), num_pool, seed=seed)
        mixed = [rows[i] for i in np.random.default_rng([seed, 1]).permutation(len(rows))]
        found["pool"] = gather(mixed, embedder, embedder.modality.shown, distinct=True, keep=MOST)
    for name, part in found.items():
        if not part.shown:
            raise DataError(f"No record of the {name} data can be used{part.remarks}.")
        say(f"{name}: {len(part.shown):,} records{part.remarks}")
    return found


def _labelled(embedder: Embedder, predictor: Predictor, known: RunData) -> Gathered:
    task, role = predictor.task, predictor.task.label_role
    roles = predictor.roles | {role: task.label_columns}
    check_roles(known.columns, list(roles))
    rows = stream_records(
        task.source(known.source), roles=roles, columns=known.columns, required=[*predictor.required, role]
    )

    def show(record: Mapping[str, Any]) -> Shown:
        return {**embedder.modality.shown(record), "label": _plain(task.read_label(record, role))}

    return gather(rows, embedder, show, distinct=False)


def _plain(label: Any) -> Any:
    """A label as a line of JSON can hold it; None for what only a file can (masks, coordinates)."""
    several = isinstance(label, list) and all(isinstance(item, str | int | float) for item in label)
    return label if several or isinstance(label, str | int | float) else None


def _index(found: Mapping[str, Gathered], embedder: Embedder, share: float, seed: int) -> Index:
    """Vectors of length 1, and what is unlike the pool."""
    known, unknown = found.get("labelled", _NONE), found.get("pool", _NONE)
    novelty = None
    if len(unknown.examples) >= LEAST:
        novelty = PoolNovelty.fitted(embedder, unknown.examples, share=share, seed=seed)
    elif unknown.shown:
        say(f"{len(unknown.shown)} records are too few to say what is unlike them: {LEAST} or more are needed")
    records = {"labelled": known.shown, "pool": unknown.shown}
    return Index(unit(known.vectors), unit(unknown.vectors), records, novelty=novelty)
