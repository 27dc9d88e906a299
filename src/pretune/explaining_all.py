"""`explain-all`: many records explained one after the other, summed up as they come."""

from __future__ import annotations

__all__ = ["explain_all", "explain_all_command"]

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pretune.columns import check_roles
from pretune.data import stream_records
from pretune.errors import ConfigError, DataError
from pretune.evaluation import evaluating
from pretune.explainers.base import Explainer
from pretune.explaining import Explaining
from pretune.explanation import Explanation
from pretune.gathered_explanations import gathered
from pretune.limits import check_numbers
from pretune.overview import Gathered, Overview
from pretune.predicting import Predictor, load
from pretune.progress import StopRequest, interruptible, say

_USUAL_LEAST = 3


def explain_all(
    run: str | Predictor,
    data: Any,
    *,
    explainer: str | dict[str, Any] | Explainer = "integrated_gradients",
    of: str | None = None,
    columns: Mapping[str, str] | None = None,
    max_records: int = 200,
    min_records: int | None = None,
    num_random: int = 20,
    sanity: int = 2,
    seed: int = 0,
) -> Overview:
    """Sums up the explanations of many records: what speaks for and against each class, and how far to trust that.

    Args:
        run: A run directory of `finetune`, or what `load` gives.
        data: File, folder, Hub name, list, DataFrame or Dataset.
        explainer: How to attribute; `pretune list` names them.
        of: A class to explain in every record instead of the predicted one.
        columns: Column of each role, where the usual names do not fit, e.g. ``{"text": "review"}``.
        max_records: Most records to explain, drawn at random from all; each takes hundreds of passes of the model.
        min_records: Words and letters in fewer explanations of a group are left out; not given: 3.
        num_random: Random orders that each explanation is compared with; 0 leaves that out.
        sanity: Models with random weights that each is compared with; 0 leaves that out.
        seed: Of the records that are drawn, the random orders and weights.

    Returns:
        What the groups have in common. Ctrl-C ends after the record that is being explained, with what there is.
    """
    check_numbers({"max_records": max_records, "min_records": min_records})
    predictor = load(run) if isinstance(run, str) else run
    if min_records is not None and predictor.modality.kind != "tokens":
        raise ConfigError(
            f"min_records is for words and letters; {predictor.modality.name} data has none, leave it out."
        )
    check_roles(columns, list(predictor.roles))
    explained = Explaining(predictor, explainer, of=of, num_random=num_random, sanity=sanity, seed=seed)
    overview = Overview(explained.method.spec(), min_records=_USUAL_LEAST if min_records is None else min_records)
    drawn = _drawn(predictor, data, columns or {}, max_records, seed, overview)
    groups: dict[str, Gathered] = {}
    with evaluating(predictor.task), interruptible() as stop:
        for record in _shown(drawn, stop):
            _add(overview, groups, _explained(explained, record, overview))
    overview.interrupted = stop.requested
    overview.groups = sorted(groups.values(), key=lambda g: -g.num_explanations)
    return overview


def _drawn(
    predictor: Predictor, data: Any, columns: Mapping[str, str], number: int, seed: int, overview: Overview
) -> list[Mapping[str, Any]]:
    """Some records at random, in the order of the data; what is held is no more than these."""
    rng = np.random.default_rng(seed)
    num, held = 0, list[tuple[int, Mapping[str, Any]]]()
    rows = stream_records(
        predictor.task.source(data), roles=predictor.roles, columns=columns, required=predictor.required
    )
    for record, error in rows:
        if record is None:
            overview.errors.append(str(error))
            continue
        num += 1
        if len(held) < number:
            held.append((num, record))
        elif (place := int(rng.integers(num))) < number:
            held[place] = (num, record)
    overview.num_read = num + len(overview.errors)
    overview.num_drawn = len(held)
    return [record for _, record in sorted(held, key=lambda item: item[0])]


def _shown(records: Sequence[Mapping[str, Any]], stop: StopRequest) -> Iterator[Mapping[str, Any]]:
    """The records, with a bar on a terminal, until someone asks to stop."""
    console = Console(stderr=True)
    columns = (TextColumn("explaining"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        for record in bar.track(records):
            if stop.requested:
                return
            yield record


def _explained(explained: Explaining, record: Mapping[str, Any], overview: Overview) -> list[Explanation]:
    try:
        example = explained.task.process([record])[0]
    except DataError as error:
        overview.errors.append(f"{record['_file']}, row {record['_row']}: {error}")
        return []
    overview.num_records += 1
    found = [e for e in explained(record, example) if e.answer is not None]
    overview.num_without += not found
    return found


def _add(overview: Overview, groups: dict[str, Gathered], explanations: Sequence[Explanation]) -> None:
    for e in explanations:
        if e.group not in groups:
            groups[e.group] = gathered(e.kind, e.group, overview.min_records)
        groups[e.group].add(e)
        overview.trust.add(e)


def explain_all_command(
    run: str,
    data: str,
    *,
    explainer: str | dict[str, Any] | Explainer = "integrated_gradients",
    of: str | None = None,
    columns: Mapping[str, str] | None = None,
    max_records: int = 200,
    min_records: int | None = None,
    num_random: int = 20,
    sanity: int = 2,
    seed: int = 0,
    out: str | None = None,
) -> int:
    """Sums up the explanations of many records: what speaks for and against each class, and how far to trust that.

    Args:
        run: A run directory of `pretune finetune`.
        data: File, folder, Hub name, or - for standard input.
        explainer: How to attribute.
        of: A class to explain in every record instead of the predicted one.
        columns: Column of each role, where the usual names do not fit.
        max_records: Most records to explain, drawn at random from all; each takes hundreds of passes of the model.
        min_records: Words and letters in fewer explanations of a group are left out; not given: 3.
        num_random: Random orders that each explanation is compared with; 0 leaves that out.
        sanity: Models with random weights that each is compared with; 0 leaves that out.
        seed: Of the records that are drawn, the random orders and weights.
        out: A .html page or a .json file to write as well.
    """
    if out is not None and Path(out).suffix not in (".html", ".json"):
        raise ConfigError(f'--out ends with .html or .json; found "{out}".')
    found = explain_all(
        run, data, explainer=explainer, of=of, columns=columns, max_records=max_records, min_records=min_records,
        num_random=num_random, sanity=sanity, seed=seed,
    )  # fmt: skip
    Console().print(found.render())
    if out is not None:
        say(f"wrote {found.write(Path(out))}")
    return 130 if found.interrupted else 0
