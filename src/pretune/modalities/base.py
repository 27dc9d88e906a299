"""What a modality must define: how records become examples and batches."""

from __future__ import annotations

__all__ = ["Batch", "Corpus", "Example", "Modality", "truncated"]

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias

import numpy as np
from transformers import PretrainedConfig

from pretune.corruptions.base import Corruption
from pretune.data import stream_records
from pretune.method import Method
from pretune.readers import RowError

if TYPE_CHECKING:
    from pretune.classical import Classical
    from pretune.tasks.base import Task

Example: TypeAlias = dict[str, Any]
"""One processed record: plain lists or NumPy arrays, without a batch dimension."""

Batch: TypeAlias = dict[str, Any]
"""Tensors with a leading batch dimension, named as transformers names them."""


class Corpus(Protocol):
    """Unlabelled data, processed and memory-mapped. What else it offers is agreed between kind and objectives."""

    fingerprint: str

    def __len__(self) -> int: ...


class Modality(Method):
    """Turns records of one sort of data into model inputs."""

    kind: ClassVar[str]
    """``tokens``, ``pixels`` or ``waveform``: what objectives and tasks declare in `accepts`."""

    inputs: ClassVar[Mapping[str, Sequence[str]]]

    replayable: bool = True
    """Whether a record is read in one way alone, so that what a frozen encoder says of it can be stored."""

    """Input roles and the usual column names of each, best first; the first role is required, others optional."""

    names: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Roles, with usual columns, that name a record and that `origin` repeats in predictions; never required."""

    main_input: str
    """The batch key that holds the input: ``input_ids``, ``pixel_values``, ``input_values`` or ``input_features``."""

    groups: Sequence[str] = ()
    """Usual names of a column whose values must not be in both training and validation (speakers)."""

    tuning: ClassVar[Mapping[str, Any]] = {}
    """What the config of a model has when it is built or loaded for a task."""

    learnt: ClassVar[Sequence[str]] = ()
    """Options that shape only what `learn` makes: with a checkpoint they have no effect."""

    unlabelled: ClassVar[Sequence[str]] = ()
    """Options that only `corpus` and `learn` read, of data without labels."""

    augmenting: ClassVar[Sequence[str]] = ()
    """Those of `labelled` that change examples in training."""

    splitting: ClassVar[Sequence[str]] = ()
    """Those of `labelled` that matter where validation data is split off."""

    labelled: ClassVar[Sequence[str]] = ()
    """Options that only `augment` reads, in the training of tasks."""

    sizes: ClassVar[Collection[str]] = ()
    """Size presets that `config` takes."""

    families: ClassVar[Collection[str]] = ()
    """Families that `config` takes."""

    counted: ClassVar[str] = "tokens"
    """What budgets and rates count: ``tokens``, ``images`` or ``seconds of sound``; the length of a corpus is in it."""

    family: ClassVar[str]
    """The architecture family from scratch when none is named."""

    objective: ClassVar[str]
    """What is pre-trained with when no objective is named."""

    loader: ClassVar[str]
    """The transformers class that loads what `save` writes: ``AutoTokenizer`` or ``AutoImageProcessor``."""

    limit: ClassVar[str] = "max_length"
    """The option beyond which a record is cut."""

    words: ClassVar[bool] = False
    """Whether tokens are words or their parts: then word statistics mean something, and texts have sentences."""

    columns: dict[str, str]
    """Columns that the user named for a role of unlabelled data; set before `learn` and `corpus`."""

    num_truncated: int = 0
    """Records that were cut, because they are longer than the modality's limit."""

    @property
    def together(self) -> int:
        """Most records that a model predicts in one run, unless told otherwise."""
        return 64

    def learn(self, source: Any) -> None:
        """Learns what the modality needs from unlabelled data or labelled records (text: a tokenizer)."""

    def corpus(self, source: Any, *, cache: Path, split: str, units: str) -> Corpus:
        """Processes unlabelled data once, cached by content and settings.

        Args:
            source: Unlabelled data.
            cache: Folder for processed data.
            split: ``train`` or ``valid`` (a fixed small share of the records), or ``all``.
            units: What the objective needs, its `Objective.units`.
        """
        raise NotImplementedError

    def process(self, record: Mapping[str, Any]) -> Example:
        """One record (columns named by input role) to one example. Raises DataError for a value it cannot use."""
        raise NotImplementedError

    def process_many(self, records: Sequence[Mapping[str, Any]]) -> list[Example]:
        """`process` for many records; a modality that can do them faster together overrides this."""
        return [self.process(record) for record in records]

    def origin(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """What a prediction repeats of its record, so that it can be found again (the file of an image)."""
        return {}

    def shown(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """What shows a person a record, JSON-able and small: a text, a path, a name and its first letters."""
        return self.origin(record)

    def unlabelled_records(
        self, source: Any, *, length: int | None = None
    ) -> Iterator[tuple[dict[str, Any] | None, RowError | None]]:
        """Records of unlabelled data one by one, or the error of a row, as `pretune.data.stream_records` gives them.

        Args:
            source: Unlabelled data.
            length: Letters of the pieces into which a modality cuts records of any length (genomes); not given: as
                many as it reads.
        """
        role = next(iter(self.inputs))
        named = {r: c for r, c in self.columns.items() if r == role}
        roles = {role: self.inputs[role], **self.names}
        return stream_records(source, roles=roles, columns=named, required=(role,))

    def pad(self, examples: Sequence[Example]) -> Batch:
        """Examples of unequal length to one batch of model inputs."""
        raise NotImplementedError

    def related(self, records: Any) -> list[int] | None:
        """The group of each labelled record, where the records themselves show that some are near copies of others.

        Such groups are not split between training and validation; None where nothing is, or everything.
        """
        return None

    def baseline(self, task: Task) -> Classical | None:
        """The classical method that a pre-trained model has to beat at a task; None where there is none."""
        return None

    def augment(self, examples: Sequence[Example], rng: np.random.Generator) -> list[Example]:
        """Changed examples whose labels still hold, for training; the same ones where there is nothing to change."""
        return list(examples)

    def views(self, examples: Sequence[Example]) -> list[list[Example]]:
        """The examples, and others over which the logits of a prediction are averaged (the other strand of DNA)."""
        return [list(examples)]

    def piece(self, example: Example, length: int, rng: np.random.Generator) -> Example:
        """A random stretch of an example, about `length` long as `length` counts; itself where all are of one size."""
        return example

    def corruptions(self) -> Sequence[Corruption]:
        """Changes of records that leave labels true, and that data of this sort suffers after training."""
        return ()

    def length(self, example: Example) -> int:
        """Cost of an example, for length buckets (tokens, frames); equal sizes may all be 1."""
        return 1

    def config(self, size: str, family: str) -> PretrainedConfig:
        """The transformers config of a size preset, for training from scratch."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Writes the tokenizer or processor into a model directory."""
        raise NotImplementedError

    def load(self, folder: str) -> Self:
        """Takes the tokenizer or processor from a local model directory or Hub name; returns self."""
        raise NotImplementedError


def truncated(modality: Modality, total: int) -> str:
    """One line on the records that were cut; `total` of them were processed."""
    name, value = modality.limit, modality.options().get(modality.limit)
    return (
        f"{modality.num_truncated:,} of {total:,} records are longer than {name} {value} and were cut to it; "
        f"--modality.{name} raises it when training, up to what the model reads."
    )
