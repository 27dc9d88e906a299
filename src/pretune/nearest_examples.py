"""What a prediction is near to: labelled records, and records of pre-training; as data, in the terminal, for a page."""

from __future__ import annotations

__all__ = ["NearestExamples", "Neighbour", "NeighbourFinder"]

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from pretune import audio_reading, image_reading, thumbnails
from pretune.embedding import Embedder, unit
from pretune.errors import DataError, RunError
from pretune.neighbour_index import Index, Shown
from pretune.predicting import Predictor
from pretune.sound_explanation import wav_address
from pretune.tasks.base import Prediction

_LINE = 88
"""Characters of a text in the terminal."""

_RATE, _SECONDS = 16_000, 10
"""Of the recordings on a page."""


@dataclass(frozen=True)
class Neighbour:
    """A record that is near.

    Attributes:
        similarity: Cosine, -1 to 1.
        shown: File, row, what shows the record, and its label where it has one.
    """

    similarity: float
    shown: Shown

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, without the thumbnail."""
        return {"similarity": round(self.similarity, 4)} | {k: v for k, v in self.shown.items() if k != "thumbnail"}

    @property
    def label(self) -> str | None:
        """Its label, as text."""
        value = self.shown.get("label")
        if value is None:
            return None
        if isinstance(value, list):
            return ", ".join(map(str, value))
        return f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def name(self) -> str:
        """Where it is: its path, or file and row."""
        path = self.shown.get("image") or self.shown.get("audio")
        return str(self.shown.get("id") or (Path(path).name if path else f"{self.shown['file']}, {self.shown['row']}"))

    @property
    def text(self) -> str:
        """Its text, or its name and what it begins with."""
        if "text" in self.shown:
            return " / ".join(self.shown[k] for k in ("text", "text_pair") if k in self.shown)
        return f"{self.name} {self.letters}".rstrip()

    @property
    def letters(self) -> str:
        """The first letters of a sequence; empty for anything else."""
        start = str(self.shown.get("start", ""))
        return f"{start}…" if len(start) < self.shown.get("num_letters", 0) else start

    @property
    def is_picture(self) -> bool:
        """Whether it is one."""
        return "image" in self.shown or "thumbnail" in self.shown

    def picture(self) -> str | None:
        """The ``data:`` address of its picture; None where it has none, or none any more."""
        packed = self.shown.get("thumbnail")
        if packed is None and "image" in self.shown:
            with contextlib.suppress(DataError):
                packed = thumbnails.thumbnail(image_reading.pixels(image_reading.picture(self.shown["image"]), 3))
        return None if packed is None else thumbnails.address(packed)

    def sound(self) -> str | None:
        """The ``data:`` address of the first seconds of its recording; None where there is none, or none any more."""
        if "audio" in self.shown:
            with contextlib.suppress(DataError):
                return wav_address(audio_reading.samples(self.shown["audio"], _RATE)[: _SECONDS * _RATE], _RATE)
        return None


@dataclass(frozen=True)
class NearestExamples:
    """What one prediction is near to.

    Attributes:
        labelled: The nearest labelled records, the most similar first.
        pool: The nearest records of the pre-training data.
        predicted: The predicted label, where the task predicts one for a record.
        agreement: Share of `labelled` whose label it is; None where there is no such label, or no labelled record.
    """

    labelled: list[Neighbour]
    pool: list[Neighbour]
    predicted: str | None = None
    agreement: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        rows = {"labelled": [n.to_dict() for n in self.labelled], "pool": [n.to_dict() for n in self.pool]}
        return {**rows, "agreement": self.agreement}

    @property
    def groups(self) -> list[tuple[str, list[Neighbour]]]:
        """Headings and neighbours; what there is none of is left out."""
        both = [("Nearest labelled examples", self.labelled), ("Nearest pre-training examples", self.pool)]
        return [(heading, rows) for heading, rows in both if rows]

    @property
    def verdict(self) -> str | None:
        """How many of the nearest labelled records have the predicted label."""
        if self.agreement is None:
            return None
        same = round(self.agreement * len(self.labelled))
        return f"{same} of the {len(self.labelled)} nearest labelled examples are labelled {self.predicted}."

    def render(self) -> Text:
        """For the terminal."""
        lines = Text()
        for heading, rows in self.groups:
            lines.append(f"{heading}\n", style="dim")
            for row in rows:
                text = " ".join(row.text.split())
                shown = text if len(text) <= _LINE else f"{text[: _LINE - 1]}…"
                lines.append(f"  {row.similarity:+.3f} ")
                lines.append(f"{row.label}  " if row.label is not None else "", style="bold")
                lines.append(f"{shown}\n")
        lines.append(self.verdict or "", style="italic")
        lines.rstrip()
        return lines


class NeighbourFinder:
    """Finds what a run's predictions are near to.

    Args:
        predictor: From `pretune.load`, with its path.
        number: Neighbours of either sort.

    Raises:
        RunError: The run has no index, or one of another model.
    """

    def __init__(self, predictor: Predictor, number: int) -> None:
        if predictor.path is None:
            raise RunError("Neighbours are kept beside a run; load it by its path.")
        self.index, self.number = Index.load(predictor.path), number
        self.embedder = Embedder.of(predictor.task)

    def __call__(self, record: Mapping[str, Any], prediction: Prediction) -> NearestExamples:
        """The neighbours of one record."""
        vector = unit(self.embedder.records([record]))
        groups = {"labelled": self.index.labelled, "pool": self.index.pool}
        found = {name: self._nearest(name, vector) if len(rows) else [] for name, rows in groups.items()}
        predicted = prediction.get("label")
        agreement = None
        if predicted is not None and found["labelled"]:
            agreement = float(np.mean([n.shown.get("label") == predicted for n in found["labelled"]]))
        return NearestExamples(found["labelled"], found["pool"], predicted, agreement)

    def _nearest(self, name: str, vector: Any) -> list[Neighbour]:
        search = self.index.near_labelled if name == "labelled" else self.index.near_pool
        similar, places = search.find(vector, self.number)
        rows: Sequence[Shown] = self.index.records[name]
        return [Neighbour(float(s), rows[int(p)]) for s, p in zip(similar[0], places[0], strict=True)]
