"""What a task must define: an objective that has labels, predictions, metrics and a target to explain."""

from __future__ import annotations

__all__ = ["Prediction", "Reliability", "Target", "Task"]

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune import first_token
from pretune.columns import preferring
from pretune.encoder import Source, TransferReport
from pretune.errors import ConfigError, did_you_mean
from pretune.label_doubts import Doubt
from pretune.modalities.base import Batch, Example, Modality
from pretune.objectives.base import Objective

if TYPE_CHECKING:
    from pretune.conformity import Conformity

Prediction: TypeAlias = dict[str, Any]
"""One JSON-able prediction: for classification ``{"label", "probabilities"}``, for tagging ``{"spans"}``..."""

Reliability: TypeAlias = tuple[str, Sequence[float] | NDArray[np.float64], Sequence[float] | NDArray[np.float64]]
"""What has a probability, each probability, and 1 where it came true, else 0."""


@dataclass(frozen=True)
class Target:
    """What one explanation is about.

    Attributes:
        name: As people read it.
        of: What `Task.target` takes.
        span: First and last + 1 word of an entity.
        group: What explanations of many records are counted to, where `name` is of this record alone.
    """

    name: str
    of: Any
    span: tuple[int, int] | None = None
    group: str | None = None


class Task(Objective):
    """A supervised task around one plain transformers model (``self.model``)."""

    label_columns: ClassVar[Sequence[str]]
    """Usual names of the label column, best first."""

    label_role: ClassVar[str] = "label"
    """Name of the label column after reading."""

    roles: ClassVar[Mapping[str, Sequence[str]] | None] = None
    """Input roles and usual column names, where they are not those of the modality."""

    stratified: ClassVar[bool] = True
    """Whether a split keeps the share of each label value."""

    truncates: ClassVar[bool] = True
    """Whether an input longer than the modality's limit loses its end, rather than being read in windows."""

    primary: ClassVar[str]
    """The metric that chooses the best weights; higher is better."""

    used: Sequence[str] = ()
    """Input roles of the records it was trained on: a model of pairs cannot judge single texts. Empty: not known."""

    named: Mapping[str, str] = MappingProxyType({})
    """Column of each role that the user named in training: other data is looked for them first."""

    no_target: ClassVar[str] = "Nothing was predicted here; name what should be explained."
    """What an explanation says when a prediction has no target."""

    lr_multiple: ClassVar[float] = 1.0
    """Times the default learning rate of fine-tuning."""

    full_lr_multiple: ClassVar[float] = 1.0
    """The same, for strategies that ask for no learning rate of their own."""

    has_leads: ClassVar[bool] = True
    """Whether `lead` finds the few records whose answer rounding could change; if not, prediction is in float32 unless
    another precision is asked for."""

    can_doubt: ClassVar[bool] = False
    """Whether `doubts` says which labels are probably wrong."""

    predicting: ClassVar[Sequence[str]] = ()
    """Options that `predict` and `evaluate` may change; training alone reads the others."""

    replayable: bool = True
    """Whether the head reads hidden states alone, so that those of a frozen encoder can be stored and replayed."""

    model: PreTrainedModel
    modality: Modality

    def change(self, given: Mapping[str, Any]) -> None:
        """Takes options that prediction reads in place of those of the training; before `restore`.

        Raises:
            ConfigError: The task has no such option, or training alone reads it, or its value cannot work.
        """
        for option in given:
            if option not in self.option_names():
                raise ConfigError(f'{self.name} has no option "{option}".{did_you_mean(option, self.option_names())}')
            if option not in self.predicting:
                known = ", ".join(self.predicting) or "none"
                raise ConfigError(
                    f"task.{option} is read in training alone and has no effect on a trained {self.name} "
                    f"(options that have one: {known}); leave it out."
                )
        type(self)(**self.options() | dict(given))  # says what is wrong with values
        vars(self).update(given)

    def source(self, given: Any) -> Any:
        """The data that the user named; a task that knows a layout of files of its own gives a `sources.Layout`."""
        return given

    def learn_labels(self, labels: Sequence[Any]) -> None:
        """Learns the label set from training labels; a loaded task has it from the model's config.

        Raises:
            DataError: Labels that cannot be learnt from (one class, NaN ...).
        """

    def config_overrides(self) -> dict[str, Any]:
        """What the task writes into the model config: ``id2label``, ``problem_type`` ..."""
        raise NotImplementedError

    def setup_from(self, source: Source, modality: Modality) -> TransferReport:
        """Builds or loads ``self.model`` with this task's head."""
        from pretune import encoder

        self.modality = modality
        auto_class = self.auto_class_for(modality.kind)
        self.model, report = encoder.make(auto_class, source, **(dict(modality.tuning) | self.config_overrides()))
        first_token.install(self.model)
        return report

    def auto_class_for(self, kind: str) -> Any:
        """The transformers Auto class for inputs of this kind."""
        raise NotImplementedError

    def restore(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes a fine-tuned model (label names from its config) for evaluation, prediction or explanation."""
        self.modality = modality
        self.model = model
        first_token.install(model)

    def required_roles(self, modality: Modality) -> tuple[str, ...]:
        """Roles that every labelled record must have."""
        return (*(self.used or list(self.input_roles(modality))[:1]), self.label_role)

    def read_roles(self, modality: Modality) -> dict[str, Sequence[str]]:
        """Usual column names of the inputs that it was trained on, those first that were named then."""
        roles = preferring(self.input_roles(modality), self.named)
        return {role: names for role, names in roles.items() if role in (self.used or roles)}

    def input_roles(self, modality: Modality) -> dict[str, Sequence[str]]:
        """Input roles that are read, and the usual column names of each."""
        every = dict(self.roles or modality.inputs)
        return {role: every[role] for role in self.used or every}

    def process(self, records: Sequence[Mapping[str, Any]]) -> Sequence[Example]:
        """Records (columns named by role) to examples, without labels."""
        return self.modality.process_many(records)

    def labelled(self, example: Example, label: Any) -> Example:
        """Adds an encoded label (``labels``) to a processed example; raises DataError for an unknown one."""
        raise NotImplementedError

    def collate(self, examples: Sequence[Example], rng: np.random.Generator | None = None) -> Batch:
        """Pads inputs and, when present, labels; `rng` is given in training alone and draws the augmentation."""
        raise NotImplementedError

    def inputs(self, examples: Sequence[Example], rng: np.random.Generator | None) -> Batch:
        """The model inputs of a batch: augmented in training, unless they carry the outputs of a frozen encoder."""
        from pretune import features

        if rng is not None and "features" not in examples[0]:
            examples = self.modality.augment(examples, rng)
        batch = self.modality.pad(examples)
        return batch | features.stack(examples, batch)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Model outputs; with ``labels`` in the batch also ``loss``. Always has ``logits`` (batch first)."""
        raise NotImplementedError

    def decode(self, logits: Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        """Logits of one batch to one prediction a record."""
        raise NotImplementedError

    def lead(self, logits: Tensor) -> Tensor:
        """By how many logits the least sure answer of each record leads, shape (batch,)."""
        best, second = logits.topk(2, dim=-1).values.unbind(-1)
        return (best - second).reshape(len(logits), -1).amin(1)

    def moved(self, rough: Tensor, exact: Tensor) -> Tensor:
        """The most by which a `lead` of each record can differ between two computations, shape (batch,)."""
        change = rough - exact
        return (change.amax(-1) - change.amin(-1)).reshape(len(change), -1).amax(1)

    def uncertainty(self, logits: Tensor, batch: Batch, found: Sequence[Prediction]) -> list[float] | None:
        """How unsure each prediction of a batch is, 0 (sure) to 1; None where the task gives no probability."""
        return None

    def metrics(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> dict[str, float]:
        """Held-out metrics from predictions and raw labels; pure, so that it can be bootstrapped over records."""
        raise NotImplementedError

    def rescored(
        self, predictions: Sequence[Prediction], labels: Sequence[Any]
    ) -> Callable[[Sequence[int]], dict[str, float]]:
        """`metrics` of records drawn by index, with replacement, for the bootstrap.

        A task whose records are costly to score does that once here, and only sums or sorts for each draw.
        """
        return lambda drawn: self.metrics([predictions[i] for i in drawn], [labels[i] for i in drawn])

    def blind(self, labels: Sequence[Any]) -> tuple[str, list[Prediction]] | None:
        """The best answer without a look at the input, which a model has to beat, in words and one prediction a record.

        None where such an answer finds nothing (boxes, entities).
        """
        return None

    def reliability(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> Reliability | None:
        """Whether probabilities come true.

        None where predictions have none, or where each is of the one label of its record.
        """
        return None

    def conformity(self) -> Conformity:
        """How surprising a label is to a prediction, for `calibrate` and for sets of stated coverage.

        Raises:
            ConfigError: A prediction is not one answer with a probability, or one number.
        """
        raise ConfigError(
            f"Predictions of {self.name} cannot be calibrated: that takes one answer a record, as classification and "
            "regression give, and these are many (words, boxes, pixels, pairs) that depend on each other."
        )

    def writer(self, folder: Path) -> AbstractContextManager[Callable[[Mapping[str, Any], Prediction], None]]:
        """Opens what writes a record and its prediction as files: drawn boxes, masks.

        Raises:
            ConfigError: The task has no other form than the prediction itself.
        """
        raise ConfigError(f"{self.name} has no files to write beside its predictions; leave --files out.")

    def target(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """The scalar a record, shape (batch,), that an explanation differentiates; `of` names a class, entity, box."""
        raise NotImplementedError

    def narrowed(self, of: Any) -> AbstractContextManager[None]:
        """Inside, the model may leave out what `answer` does not read for this target."""
        return contextlib.nullcontext()

    def targets(self, prediction: Prediction, of: Any = None) -> list[Target]:
        """What there is to explain in a prediction: all of it, or what the user named with `of`.

        Raises:
            ConfigError: There is no such target.
        """
        raise ConfigError(f"Predictions of {self.name} cannot be explained yet.")

    def mistake(self, prediction: Prediction, label: Any) -> tuple[str, Any] | None:
        """The clearest mistake of a prediction: a sentence, and what `targets` takes to explain it.

        None where there is none, or where the prediction has no parts, so that it is the mistake.
        """
        return None

    def held_out(self, logits: Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        """Predictions of examples that were not trained on, with what `doubts` needs besides."""
        return self.decode(logits, batch, examples)

    def doubts(self, found: Sequence[Prediction], labels: Sequence[Any]) -> list[Doubt]:
        """Labels that are probably wrong, the surest first.

        Args:
            found: Of `held_out`.
            labels: Raw labels, same order.
        """
        raise NotImplementedError

    def answer(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """Probability of the target (an entity: of all its tags together), or the value; shape (batch,)."""
        problem = self.model.config.problem_type
        if problem == "regression" or logits.shape[-1] == 1:
            return self.target(logits, batch, of=of)
        link = F.logsigmoid if problem == "multi_label_classification" else partial(F.log_softmax, dim=-1)
        return self.target(link(logits), batch, of=of).exp()

    def export(self) -> PreTrainedModel:
        """The fine-tuned transformers model."""
        return self.model

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def read_label(self, record: Mapping[str, Any], column: str) -> Any:
        """The raw label of a record, normalised to what `labelled` and `metrics` take."""
        return record[column]

    def classes_in(self, record: Mapping[str, Any]) -> list[str]:
        """The classes that the label of a record names, once for each time, for `check`.

        Raises:
            DataError: A label that cannot be used.
        """
        label = record[self.label_role]
        return [str(name) for name in label] if isinstance(label, list) else [str(label)]

    def check_learnable(self, example: Example) -> None:
        """Finds a labelled example that can be scored, but not learnt from.

        Raises:
            DataError: It is one.
        """

    def check_size(self, label: Any, size: Sequence[int]) -> None:
        """Finds a label that does not fit the (height, width) of its image.

        Raises:
            DataError: It does not.
        """

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Not used: a task builds its model with `setup_from`."""
        raise ConfigError(f"{self.name} is a task and needs labels: use finetune, not pretrain.")
