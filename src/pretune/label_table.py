"""A table of records to label: their own columns, what the model says of them, and an empty column for the label."""

from __future__ import annotations

__all__ = ["check_out", "table_rows", "write_table"]

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pretune.checkpoint import write_text
from pretune.columns import FILE_ROLES
from pretune.data import tables_of
from pretune.errors import ConfigError, DataError
from pretune.predicting import Predictor
from pretune.readers import RowError
from pretune.sources import STDIN
from pretune.tasks.base import Prediction

ADDED = ("predicted_label", "predicted_probability", "labelling_score", "labelling_rank")

Place = tuple[str, int]


def check_out(out: str, overwrite: bool) -> Path:
    """The file to write.

    Raises:
        ConfigError: It is no .csv, or is there already.
    """
    path = Path(out)
    if path.suffix != ".csv":
        raise ConfigError(f'--out ends with .csv, a table to fill in; found "{out}".')
    if path.exists() and not overwrite:
        raise ConfigError(f'"{out}" exists, and may hold labels; give another --out, or --overwrite.')
    return path


def table_rows(
    predictor: Predictor,
    data: Any,
    columns: Mapping[str, str],
    chosen: Sequence[tuple[Mapping[str, Any], Prediction, float | None]],
) -> list[dict[str, Any]]:
    """A row a record, best first, with all columns that it has in its source.

    Args:
        predictor: The run.
        data: What the records are of; read once more, but for standard input.
        columns: Column of each role.
        chosen: Record, prediction and uncertainty.

    Raises:
        DataError: The source has columns of the names that are added.
    """
    places = {(record["_file"], record["_row"]) for record, _, _ in chosen}
    originals = {} if data == STDIN else dict(_originals(predictor, data, columns, places))
    label = predictor.task.label_role
    rows = []
    for rank, (record, prediction, unsure) in enumerate(chosen, 1):
        own = originals.get((record["_file"], record["_row"])) or _by_role(record)
        taken = [c for c in own if c in ADDED]
        if taken:
            raise DataError(f'The data has a column "{taken[0]}", which label-next adds; rename or remove it.')
        values = _located({k: v for k, v in own.items() if k != label}, record)
        answer, probability = _answer(prediction)
        said = (answer, probability, "" if unsure is None else round(unsure, 4), rank)
        rows.append({**values, **dict(zip(ADDED, said, strict=True)), label: ""})
    return rows


def write_table(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Writes a .csv that appears only when it is complete; a column that some rows lack is empty there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    last = list(rows[0])[-1]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*(n for n in names if n != last), last], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, stream.getvalue())


def _originals(
    predictor: Predictor, data: Any, columns: Mapping[str, str], places: Collection[Place]
) -> Iterator[tuple[Place, dict[str, Any]]]:
    source = predictor.task.source(data)
    for table in tables_of(source, predictor.roles, columns, predictor.required):
        for number, row in table.rows(None):
            if (table.file, number) in places and not isinstance(row, RowError):
                yield (table.file, number), row


def _by_role(record: Mapping[str, Any]) -> dict[str, Any]:
    return {role: value for role, value in record.items() if not role.startswith("_")}


def _located(row: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """Values as a cell can hold them: paths that hold wherever the table lies; what is no text as its file and row."""
    paths = {str(record[role]) for role in FILE_ROLES if isinstance(record.get(role), str)}
    found: dict[str, Any] = {}
    for name, value in row.items():
        path = next((p for p in paths if isinstance(value, str) and value and p.endswith(value)), None)
        if path is not None:
            found[name] = str(Path(path).resolve())
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            found[name] = " ".join(value)
        elif value is None or isinstance(value, str | int | float):
            found[name] = "" if value is None else value
        else:
            found |= {"file": record["_file"], "row": record["_row"]}
    return found


def _answer(prediction: Prediction) -> tuple[Any, Any]:
    """What was predicted, and with which probability, where a cell can hold it."""
    probabilities = prediction.get("probabilities", {})
    if "label" in prediction:
        return prediction["label"], round(probabilities[prediction["label"]], 4)
    if "labels" in prediction:
        return ";".join(prediction["labels"]), ""
    found = next((prediction[k] for k in ("value", "text", "tags") if k in prediction), "")
    return " ".join(found) if isinstance(found, list) else found, ""
