"""Every weight moves; optionally with a smaller learning rate for the encoder than for the head."""

from __future__ import annotations

__all__ = ["Full"]

from collections.abc import Iterable, Mapping
from typing import ClassVar

from torch import nn
from transformers import PreTrainedModel

from pretune.errors import ConfigError
from pretune.strategies.base import Range, Strategy


class Full(Strategy):
    """Plain fine-tuning of all weights.

    Args:
        encoder_lr_scale: Factor on the learning rate of the pre-trained weights; the head keeps the full
            rate.
    """

    searched: ClassVar[Mapping[str, Range]] = {"encoder_lr_scale": Range(0.1, 1.0, log=True)}

    def __init__(self, *, encoder_lr_scale: float = 1.0) -> None:
        if encoder_lr_scale <= 0:
            raise ConfigError(f"encoder_lr_scale must be positive, found {encoder_lr_scale}; to freeze, use freeze.")
        self.encoder_lr_scale = encoder_lr_scale
        self._new: frozenset[str] = frozenset()

    def setup(self, model: PreTrainedModel, new: Iterable[str]) -> PreTrainedModel:
        """Remembers which parameters are the head."""
        self._new = frozenset(new)
        return model

    def lr_scale(self, name: str, parameter: nn.Parameter, model: PreTrainedModel) -> float:
        """`encoder_lr_scale` for what was loaded, 1 for the head."""
        return 1.0 if name in self._new else self.encoder_lr_scale
