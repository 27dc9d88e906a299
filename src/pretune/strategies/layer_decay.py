"""Layer-wise learning-rate decay: the lower the layer, the smaller its learning rate."""

from __future__ import annotations

__all__ = ["LayerDecay"]

from collections.abc import Iterable, Mapping
from typing import ClassVar

from torch import nn
from transformers import PreTrainedModel

from pretune.encoder import depths
from pretune.errors import ConfigError
from pretune.strategies.base import Range, Strategy
from pretune.strategies.freeze import pretrained


class LayerDecay(Strategy):
    """Multiplies the learning rate by ``decay`` once for every layer that a parameter lies below the head.

    Discriminative fine-tuning (Howard & Ruder 2018) in the form of ELECTRA (Clark et al. 2020). The head
    has factor 1, the top block `decay`, the embeddings ``decay ** (blocks + 1)``.

    Args:
        decay: Factor from one layer to the next lower one.
    """

    searched: ClassVar[Mapping[str, Range]] = {"decay": Range(0.6, 0.97)}

    def __init__(self, *, decay: float = 0.9) -> None:
        if not 0 < decay < 1:
            raise ConfigError(f"decay must be between 0 and 1, found {decay}; 1 would be the strategy full.")
        self.decay = decay
        self._new: frozenset[str] = frozenset()
        self._depths: dict[str, int] = {}

    def setup(self, model: PreTrainedModel, new: Iterable[str]) -> PreTrainedModel:
        """Looks the depth of every parameter up."""
        self._new = frozenset(new)
        pretrained(model, self._new, self.name)
        self._depths = depths(model)
        return model

    def lr_scale(self, name: str, parameter: nn.Parameter, model: PreTrainedModel) -> float:
        """``decay ** (top - depth)``; 1 for new parameters."""
        if name in self._new:
            return 1.0
        if name not in self._depths:  # a strategy after this one wrapped the model (LoRA)
            self._depths = depths(model)
        return float(self.decay ** (max(self._depths.values()) - self._depths[name]))
