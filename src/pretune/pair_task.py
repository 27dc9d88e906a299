"""What tasks with an answer for every pair of residues share: coordinates as labels, crops, windows, the model."""

from __future__ import annotations

__all__ = ["Contact", "PairTask", "as_pair", "known_distances", "protein_name"]

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from pretune import data, features
from pretune.contact_maps import as_coordinates, pair_distances, separations
from pretune.errors import ConfigError, DataError, ModelError
from pretune.modalities.base import Batch, Example, Modality
from pretune.pair_head import PairwiseHead
from pretune.pair_model import AutoPair
from pretune.tasks.base import Prediction, Target, Task

Contact: TypeAlias = tuple[int, int]
"""Two residues, counted from 1."""

_Floats: TypeAlias = NDArray[np.float32]
_LEAST_CROP = 16
_LEAST_STEP = 1.5
"""Angstrom between neighbours below which coordinates are in another unit."""

_SHOWN = 3


class PairTask(Task):
    """A task on proteins whose label is one atom a residue, with a `PairModel`.

    In training a protein that is longer than `crop` is cut at a random place in every step. In prediction it is read
    whole, or, where the modality's max_length is smaller, in windows of that length that overlap by half: pairs that
    no window holds have no answer, and their number is part of the prediction.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"tokens"})
    roles: ClassVar[Mapping[str, Sequence[str]] | None] = {**data.PROTEIN_COLUMNS, **data.ID_COLUMNS}
    label_role: ClassVar[str] = "structure"
    stratified: ClassVar[bool] = False
    truncates: ClassVar[bool] = False
    has_leads: ClassVar[bool] = False
    purpose: ClassVar[str]
    """End of the model's class name."""

    def __init__(self, *, head: str, width: int, num_convolutions: int, crop: int) -> None:
        super().__init__()
        if width < 4 or num_convolutions < 0:
            raise ConfigError(
                f"width must be at least 4 and num_convolutions at least 0; found {width} and {num_convolutions}."
            )
        if crop < _LEAST_CROP:
            raise ConfigError(f"crop must be at least {_LEAST_CROP} residues, found {crop}.")
        self.head, self.width, self.num_convolutions, self.crop = head, width, num_convolutions, crop
        self.replayable = head != "attention"
        self.prior: list[float] = []

    def check(self, modality: Modality) -> None:
        """Raises ConfigError unless the records are sequences of residues, one token each."""
        if "sequence" not in modality.inputs or not getattr(modality, "letters", True):
            raise ConfigError(f"{self.name} needs sequences of residues: give --modality protein.")

    # -- labels --------------------------------------------------------------------------------------------------------

    def read_label(self, record: Mapping[str, Any], column: str) -> _Floats:
        """Coordinates, shape (residues, 3) in Angstrom, NaN where the atom is missing.

        Raises:
            DataError: They are none, not one for each residue, or not in Angstrom; names file and row.
        """
        try:
            found = as_coordinates(record[column])
        except ValueError as error:
            raise DataError(f"{_where(record)}{error}") from error
        sequence = record.get("sequence")
        if isinstance(sequence, str) and len(sequence.strip()) != len(found):
            raise DataError(
                f"{_where(record)}expected coordinates for each of the {len(sequence.strip())} residues, "
                f"found {len(found)}."
            )
        steps = np.linalg.norm(np.diff(found, axis=0), axis=1)
        if (~np.isnan(steps)).any() and (middle := float(np.nanmedian(steps))) < _LEAST_STEP:
            raise DataError(
                f"{_where(record)}neighbours are {middle:.2f} apart, and some 3.8 to 6 in Angstrom; are these "
                "nanometres? Multiply them by 10."
            )
        return found

    def classes_in(self, record: Mapping[str, Any]) -> list[str]:
        """One name for each residue with coordinates, so that `check` counts them and finds rows that have none."""
        known = ~np.isnan(self.read_label(record, self.label_role)).any(1)
        return ["residues with coordinates"] * int(known.sum())

    def learn_labels(self, labels: Sequence[Any]) -> None:
        """Learns how frequent each answer is, from which the bias of the outputs starts.

        Raises:
            DataError: No pair of residues can be learnt from.
        """
        counts = np.zeros(max(self.num_outputs, 2))
        for label in labels:
            answers = self.truth(label)
            counts += np.bincount(answers[answers >= 0].numpy(), minlength=len(counts))
        if not counts.any() or (self.num_outputs == 1 and not counts[1]):
            raise DataError(
                f"{self.name} found nothing to learn from in {len(labels)} proteins: no two residues with coordinates "
                "are near each other; check that they are in Angstrom."
            )
        shares = (counts + 1) / (counts + 1).sum()
        self.prior = [float(np.log(shares[1] / shares[0]))] if self.num_outputs == 1 else np.log(shares).tolist()

    @property
    def num_outputs(self) -> int:
        """Answers for a pair."""
        raise NotImplementedError

    def answers(self, coordinates: Tensor) -> Tensor:
        """The number of the right answer for each pair, -1 where the pair does not count.

        Args:
            coordinates: Shape (..., residues, 3).
        """
        raise NotImplementedError

    def labelled(self, example: Example, label: Any) -> Example:
        """Adds ``coordinates`` (residues, 3)."""
        found = as_coordinates(label)
        length = len(example["input_ids"]) - 2
        if len(found) != length:
            raise DataError(f"Expected coordinates for each of the {length} residues, found {len(found)}.")
        return example | {"coordinates": found}

    # -- the model -----------------------------------------------------------------------------------------------------

    def auto_class_for(self, kind: str) -> Any:
        """What builds the pair model around any encoder of tokens."""
        return AutoPair(self.purpose)

    def config_overrides(self) -> dict[str, Any]:
        """The mapping ``pair``: head, outputs, and what `remembered` adds."""
        names = ("head", "width", "num_convolutions")
        return {"pair": {name: getattr(self, name) for name in names} | {"bias": self.prior} | self.remembered()}

    def remembered(self) -> dict[str, Any]:
        """JSON-able options that a restored task needs."""
        return {}

    def restore(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes what `config_overrides` wrote from the model's config.

        Raises:
            ModelError: It is not a model of such a task.
        """
        super().restore(model, modality)
        pair = getattr(model.config, "pair", None)
        if pair is None or not self.remembered().keys() <= pair.keys():
            raise ModelError(f'{type(model).__name__} has no "pair" in its config; it was not made for {self.name}.')
        for name in ("head", "width", "num_convolutions", *self.remembered()):
            setattr(self, name, pair[name])
        self.prior, self.replayable = list(pair["bias"]), pair["head"] != "attention"

    # -- examples ------------------------------------------------------------------------------------------------------

    @property
    def window(self) -> int:
        """Most residues that the model reads at once."""
        limit: Any = getattr(self.modality, "max_length", None)
        return max(1, int(limit) - 2) if limit else 1_000_000

    def process(self, records: Sequence[Mapping[str, Any]]) -> list[Example]:
        """Whole sequences, whatever the modality's max_length: ``input_ids`` (1 + residues + 1)."""
        return [self._example(record) for record in records]

    def _example(self, record: Mapping[str, Any]) -> Example:
        sequence = record.get("sequence")
        if not isinstance(sequence, str) or not sequence.strip():
            raise DataError(f"A sequence of residues was expected, found {sequence!r}.")
        sequence = self.modality.alphabet.clean(sequence)  # type: ignore[attr-defined]  # `check` asked for sequences
        pieces = [sequence[k : k + self.window] for k in range(0, len(sequence), self.window)]
        found = [list(e["input_ids"]) for e in self.modality.process_many([{"sequence": p} for p in pieces])]
        if any(len(ids) != len(piece) + 2 for ids, piece in zip(found, pieces, strict=True)):
            raise DataError(f"Expected one letter a residue, found {sequence[:40]!r}; remove what is no residue.")
        inner = [token for ids in found for token in ids[1:-1]]
        return {"input_ids": [found[0][0], *inner, found[0][-1]]}

    def collate(self, examples: Sequence[Example], rng: np.random.Generator | None = None) -> Batch:
        """Crops or windows, padded: ``row_of`` (rows,) and ``spans`` (rows, 2) say what each row holds.

        With labels also ``coordinates`` (rows, residues, 3), NaN where missing or padded.
        """
        if rng is not None and "features" not in examples[0]:
            rows = [(i, *self._crop(len(e["input_ids"]) - 2, rng)) for i, e in enumerate(examples)]
        else:
            rows = [(i, *span) for i, e in enumerate(examples) for span in _windows(_length(e), self.window)]
        batch = self.modality.pad([_cut(examples[i], start, stop) for i, start, stop in rows])
        batch["row_of"] = torch.tensor([i for i, _, _ in rows])
        batch["spans"] = torch.tensor([span for _, *span in rows])
        if "coordinates" in examples[0]:
            batch["coordinates"] = _padded([examples[i]["coordinates"][a:b] for i, a, b in rows])
        return batch | features.stack(examples, batch)

    def _crop(self, length: int, rng: np.random.Generator) -> tuple[int, int]:
        size = min(length, self.crop, self.window)
        start = int(rng.integers(0, length - size + 1))
        return start, start + size

    def truth(self, label: Any) -> Tensor:
        """The answer for each pair of a raw label, -1 where unknown, shape (residues, residues)."""
        return self.answers(torch.from_numpy(as_coordinates(label)))

    def counts(self, batch: Batch) -> dict[str, float]:
        """Pairs whose answer is known."""
        return {"pairs": max(1.0, float((self.answers(batch["coordinates"]) >= 0).sum()))}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``logits`` (rows, residues, residues, outputs), float32; with labels also ``loss``."""
        logits = features.logits(self.model, batch).float()
        if "coordinates" not in batch:
            return {"logits": logits}
        answers = self.answers(batch["coordinates"])
        counted = answers >= 0
        known = counted.sum().clamp(min=1)
        loss = self.losses(logits[counted], answers[counted]).sum() * (self.scale.get("pairs", 1.0) / known)
        return {"logits": logits, "loss": loss}

    def losses(self, logits: Tensor, answers: Tensor) -> Tensor:
        """The loss of each pair, shape (pairs,).

        Args:
            logits: Shape (pairs, outputs).
            answers: Shape (pairs,).
        """
        raise NotImplementedError

    # -- predictions ---------------------------------------------------------------------------------------------------

    def maps(self, logits: Tensor, batch: Batch) -> list[Tensor]:
        """The logits of each protein, mean over its windows, (residues, residues, outputs); NaN where none saw a pair.

        Args:
            logits: Shape (rows, residues, residues, outputs).
            batch: Its ``row_of`` and ``spans``.
        """
        row_of, spans = batch["row_of"].tolist(), batch["spans"].tolist()
        found = []
        for protein in range(row_of[-1] + 1):
            rows = [r for r, i in enumerate(row_of) if i == protein]
            length = max(spans[r][1] for r in rows)
            total = logits.new_zeros(length, length, logits.shape[-1])
            times = logits.new_zeros(length, length, 1)
            for r in rows:
                a, b = spans[r]
                total[a:b, a:b] += logits[r, : b - a, : b - a]
                times[a:b, a:b] += 1
            found.append(total / times.where(times > 0, torch.nan))
        return found

    def contact_logits(self, logits: Tensor) -> Tensor:
        """Log-odds that a pair touches, shape (..., residues, residues)."""
        raise NotImplementedError

    def target(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """Log-odds that two residues touch, shape (rows,); without `of` those of the likeliest distant pair.

        Args:
            logits: Of one window or variants of it, shape (rows, residues, residues, outputs).
            batch: Not used.
            of: ``(i, j)`` or ``"i-j"``, counted from 1.
        """
        odds = self.contact_logits(logits)
        length = odds.shape[-1]
        if of is None:
            near = separations(length, odds.device) < min(6, length - 1)
            return odds.masked_fill(near, -torch.inf).flatten(1).amax(1)
        i, j = as_pair(of)
        if getattr(self._head, "only", None) is not None:
            return odds[:, 0, 1]
        if max(i, j) > length:
            raise ConfigError(f"There is no contact {i}-{j}: the model sees {length} residues, counted from 1.")
        return odds[:, i - 1, j - 1]

    @property
    def _head(self) -> Any:
        return getattr(self.model, "pair_head", None)

    @contextlib.contextmanager
    def narrowed(self, of: Any) -> Iterator[None]:
        """Inside, the model answers for the pair alone, where pairs do not depend on each other."""
        head = self._head
        if of is None or not isinstance(head, PairwiseHead) or head.blocks:
            yield
            return
        i, j = as_pair(of)
        head.only = (i - 1, j - 1)
        try:
            yield
        finally:
            head.only = None

    def answer(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """Probability that they touch, shape (rows,)."""
        return self.target(logits, batch, of=of).sigmoid()

    def targets(self, prediction: Prediction, of: Any = None) -> list[Target]:
        """The pair that is named, or the likeliest three of the prediction."""
        pairs = [as_pair(of)] if of is not None else self.likeliest(prediction)[:_SHOWN]
        return [Target(f"{i}-{j}", (i, j), group="contact") for i, j in pairs]

    def likeliest(self, prediction: Prediction) -> list[Contact]:
        """Pairs that a prediction holds to touch, best first."""
        raise NotImplementedError


def as_pair(of: Any) -> Contact:
    """Two residues of ``(i, j)`` or ``"i-j"``.

    Raises:
        ConfigError: It is neither.
    """
    parts = re.findall(r"\d+", of) if isinstance(of, str) else list(of) if isinstance(of, list | tuple) else []
    if len(parts) != 2 or min(int(p) for p in parts) < 1:
        raise ConfigError(f'A contact is two residues counted from 1, such as "12-87"; found {of!r}.')
    return int(parts[0]), int(parts[1])


def protein_name(record: Mapping[str, Any], taken: set[str]) -> str:
    """A name for files after the record's id, with its row number where it has none or another has the same."""
    name = re.sub(r"[^\w.-]+", "_", str(record.get("id") or "")).strip("._")[:80]
    name = f"{name or 'row'}-{record['_row']}" if not name or name in taken else name
    taken.add(name)
    return name


def _where(record: Mapping[str, Any]) -> str:
    return f"{record['_file']}, row {record['_row']}: " if record.get("_file") else ""


def _length(example: Example) -> int:
    return len(example["input_ids"]) - 2


def _windows(length: int, size: int) -> list[tuple[int, int]]:
    """Spans that cover a sequence, each overlapping the next by half at least."""
    if length <= size:
        return [(0, length)]
    step = max(1, size // 2)
    starts = [*range(0, length - size, step), length - size]
    return [(start, start + size) for start in starts]


def _cut(example: Example, start: int, stop: int) -> Example:
    ids = example["input_ids"]
    return {"input_ids": [ids[0], *ids[1 + start : 1 + stop], ids[-1]]}


def _padded(parts: Sequence[_Floats]) -> Tensor:
    found = torch.full((len(parts), max(map(len, parts)), 3), torch.nan)
    for row, part in zip(found, parts, strict=True):
        row[: len(part)] = torch.from_numpy(part)
    return found


def known_distances(coordinates: Tensor) -> Tensor:
    """Distances in Angstrom, NaN below the diagonal and on it: each pair counts once; (..., residues, residues)."""
    found = pair_distances(coordinates)
    upper = torch.ones(found.shape[-2:], dtype=torch.bool, device=found.device).triu(1)
    return found.masked_fill(~upper, torch.nan)
