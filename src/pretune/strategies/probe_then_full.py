"""Linear probing first, then all weights with a smaller learning rate (LP-FT)."""

from __future__ import annotations

__all__ = ["ProbeThenFull"]

from collections.abc import Iterable, Mapping
from typing import ClassVar

from transformers import PreTrainedModel

from pretune.errors import ConfigError
from pretune.strategies.base import Range, Strategy
from pretune.strategies.freeze import pretrained, release, set_trainable


class ProbeThenFull(Strategy):
    """Trains the head on the frozen encoder, then everything.

    A head that already fits distorts the pre-trained features less: Kumar et al. 2022, "Fine-Tuning can
    Distort Pretrained Features and Underperform Out-of-Distribution".

    Args:
        probe_rate: Share of the budget spent on the head alone.
        full_lr_scale: Factor on the learning rate of all weights after the probe.
    """

    searched: ClassVar[Mapping[str, Range]] = {"probe_rate": Range(0.1, 0.6)}

    def __init__(self, *, probe_rate: float = 0.3, full_lr_scale: float = 0.1) -> None:
        if not 0 < probe_rate < 1:
            raise ConfigError(f"probe_rate must be between 0 and 1, found {probe_rate}.")
        if full_lr_scale <= 0:
            raise ConfigError(f"full_lr_scale must be positive, found {full_lr_scale}; for a probe alone, use freeze.")
        self.probe_rate = probe_rate
        self.full_lr_scale = full_lr_scale
        self._trainable: set[str] = set()
        self._loaded: set[str] = set()

    @property
    def lr_multiple(self) -> float:
        """``1 / full_lr_scale``: the usual rate once everything moves, and a larger one for the probe."""
        return 1.0 / self.full_lr_scale

    def setup(self, model: PreTrainedModel, new: Iterable[str]) -> PreTrainedModel:
        """Freezes all that was loaded."""
        self._loaded = pretrained(model, new, self.name)
        self._trainable = {n for n, p in model.named_parameters() if p.requires_grad}
        self.thaw(model, 0.0)
        return model

    def thaw(self, model: PreTrainedModel, progress: float) -> bool:
        """Thaws everything at `probe_rate`; the learning rate changes with it, see `lr_factor`."""
        probing = progress < self.probe_rate
        return set_trainable(model, self._trainable - self._loaded if probing else self._trainable)

    def lr_factor(self, progress: float) -> float:
        """1 while probing, `full_lr_scale` after: a factor on the schedule, for all parameters."""
        return 1.0 if progress < self.probe_rate else self.full_lr_scale

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """Lets frozen modules follow ``train()`` again, should the budget have ended in the probe."""
        release(model)
        return model
