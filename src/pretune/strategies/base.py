"""What a strategy must define: how pre-trained weights may move during fine-tuning."""

from __future__ import annotations

__all__ = ["Range", "Strategy"]

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn
from transformers import PreTrainedModel

from pretune.errors import ConfigError
from pretune.method import Method

if TYPE_CHECKING:
    from pretune.train import FitResult
    from pretune.tuning import Tuning


@dataclass(frozen=True)
class Range:
    """Between which values an option is worth trying; whole numbers when both ends are `int`.

    Attributes:
        low: Least value.
        high: Greatest value.
        log: Whether a factor counts, rather than a difference.
    """

    low: float
    high: float
    log: bool = False


class Strategy(Method):
    """Hooks around `fit`; strategies compose as ``l2sp+layer_decay``, applied left to right.

    "Pre-trained" is what the transfer report says was loaded; parameters that are new (classifier, an absent pooler)
    are the head and are always trained. Most strategies act while one model is trained; one that `selects` acts on the
    trained model, and one that `repeats` decides itself what is trained, and how often.
    """

    searched: ClassVar[Mapping[str, Range]] = {}
    """The options that ``choose`` varies; each default lies in its range."""

    selects: ClassVar[bool] = False
    """Whether `select` changes the weights after training."""

    repeats: ClassVar[bool] = False
    """Whether `conduct` replaces the one training by several."""

    @property
    def needs_validation(self) -> bool:
        """True when it decides something by validation data."""
        return False

    @property
    def num_folds(self) -> int:
        """Into how many folds it wants the training data cut, to cross-validate; 0: not at all."""
        return 0

    @property
    def leaves_plain(self) -> bool:
        """True when `finish` leaves a model whose tensors are those of the checkpoint, by name."""
        return True

    def check(self, others: Sequence[Strategy], *, validation: bool) -> None:
        """Finds what cannot work, before any data is read.

        Args:
            others: What it is joined with.
            validation: Whether there will be validation data.

        Raises:
            ConfigError: It needs validation data and there is none, or it cannot be joined with the others.
        """
        if self.needs_validation and not validation:
            raise ConfigError(
                f'Strategy "{self.name}" decides by validation data, and there is none; give --valid, or a '
                "--valid_rate above 0."
            )

    @property
    def lr_multiple(self) -> float:
        """Factor on the default learning rate: what trains little of a model needs a larger one."""
        return 1.0

    def setup(self, model: PreTrainedModel, new: Iterable[str]) -> PreTrainedModel:
        """Freezes, wraps or remembers weights before the optimiser exists.

        Args:
            model: The task model with its loaded encoder.
            new: Names of the parameters that were not in the checkpoint.

        Returns:
            The model to train, the same object unless it had to be wrapped.
        """
        return model

    def lr_scale(self, name: str, parameter: nn.Parameter, model: PreTrainedModel) -> float:
        """Factor on the learning rate of one parameter."""
        return 1.0

    def weight_decay_scale(self, name: str) -> float:
        """Factor on the decoupled weight decay of one parameter (0 where the strategy penalises it itself)."""
        return 1.0

    def lr_factor(self, progress: float) -> float:
        """Factor on every learning rate at this progress (0 to 1), on top of the schedule."""
        return 1.0

    def thaw(self, model: PreTrainedModel, progress: float) -> bool:
        """Changes what is trainable at this progress (0 to 1); True when something changed (`fit` then re-wraps).

        Must be a pure function of `progress`, so that a resumed run finds the same state.
        """
        return False

    def before_step(self, model: PreTrainedModel, lr: float) -> None:
        """Edits gradients after clipping, before the optimiser's step."""

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """What is exported: merges adapters, for instance."""
        return model

    def select(self, model: PreTrainedModel, score: Callable[[], float]) -> dict[str, Any]:
        """Changes the weights of the finished model in place.

        Args:
            model: After `finish` of all strategies.
            score: The primary metric on validation data of the model as it stands.

        Returns:
            What was decided and why, for lineage.json.
        """
        raise NotImplementedError

    def conduct(self, tuning: Tuning) -> FitResult:
        """Trains as often as it takes, with ``tuning.once``, and leaves the final weights in the task's model."""
        raise NotImplementedError

    @property
    def frozen_throughout(self) -> bool:
        """True when the encoder never moves, so that its outputs may be computed once and replayed."""
        return False
