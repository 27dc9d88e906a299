"""Gradual unfreezing: the head first, then one block after another from the top."""

from __future__ import annotations

__all__ = ["Unfreeze"]

from collections.abc import Iterable, Mapping
from typing import ClassVar

from transformers import PreTrainedModel

from pretune.encoder import depths, num_layers
from pretune.errors import ConfigError
from pretune.strategies.base import Range, Strategy
from pretune.strategies.freeze import pretrained, release, set_trainable


class Unfreeze(Strategy):
    """Thaws the encoder from its top block down to the embeddings, in equal shares of the budget.

    Howard & Ruder 2018, "Universal Language Model Fine-tuning for Text Classification" (one layer an epoch
    there).

    Args:
        until_rate: Share of the budget after which everything is thawed.
    """

    searched: ClassVar[Mapping[str, Range]] = {"until_rate": Range(0.2, 1.0)}

    def __init__(self, *, until_rate: float = 0.5) -> None:
        if not 0 < until_rate <= 1:
            raise ConfigError(f"until_rate must be above 0 and at most 1, found {until_rate}.")
        self.until_rate = until_rate
        self._depths: dict[str, int] = {}
        self._always: set[str] = set()

    def setup(self, model: PreTrainedModel, new: Iterable[str]) -> PreTrainedModel:
        """Freezes all that was loaded. What another strategy froze before is never thawed."""
        loaded = pretrained(model, new, self.name)
        trainable = {n for n, p in model.named_parameters() if p.requires_grad}
        table = depths(model)
        self._depths = {name: table[name] for name in loaded & trainable}
        self._always = trainable - loaded
        self.thaw(model, 0.0)
        return model

    def thaw(self, model: PreTrainedModel, progress: float) -> bool:
        """Thaws the top ``floor(progress / until_rate * (blocks + 1))`` of blocks and embeddings."""
        stages = num_layers(model) + 1
        thawed = min(stages, int(progress / self.until_rate * stages + 1e-9))
        # what follows the blocks (a loaded pooler, a final norm) goes with the top block
        lowest = stages - thawed if thawed else stages + 1
        return set_trainable(model, self._always | {n for n, d in self._depths.items() if d >= lowest})

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """Lets modules that were never thawed follow ``train()`` again."""
        release(model)
        return model
