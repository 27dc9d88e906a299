"""What a strategy must define: how pre-trained weights may move during fine-tuning."""

from __future__ import annotations

__all__ = ["Strategy"]

from collections.abc import Iterable

from torch import nn
from transformers import PreTrainedModel

from pretune.method import Method


class Strategy(Method):
    """Hooks around `fit`; strategies compose as ``l2sp+layer_decay``, applied left to right.

    "Pre-trained" is what the transfer report says was loaded; parameters that are new (classifier, an absent pooler)
    are the head and are always trained.
    """

    @property
    def needs_validation(self) -> bool:
        """True when it decides something by validation data."""
        return False

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

    @property
    def frozen_throughout(self) -> bool:
        """True when the encoder never moves, so that its outputs may be computed once and replayed."""
        return False
