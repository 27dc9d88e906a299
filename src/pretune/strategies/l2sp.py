"""L2-SP: an L2 penalty that pulls towards the pre-trained weights instead of towards zero."""

from __future__ import annotations

__all__ = ["L2SP"]

from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pretune.errors import ConfigError
from pretune.strategies.base import Range, Strategy
from pretune.strategies.freeze import pretrained


class L2SP(Strategy):
    """Adds ``alpha/2 * ||w - w0||^2 + beta/2 * ||head||^2`` to the loss, as its gradient.

    Xuhong Li et al. 2018, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks". As a
    gradient edit it needs no graph and is the same under DDP. It replaces weight decay, see
    `weight_decay_scale`.

    Args:
        alpha: Strength of the pull of loaded weights ``w`` towards their pre-trained values ``w0``.
        beta: Strength of the plain L2 penalty on the head (the new parameters).
    """

    searched: ClassVar[Mapping[str, Range]] = {"alpha": Range(0.001, 1.0, log=True)}

    def __init__(self, *, alpha: float = 0.01, beta: float = 0.01) -> None:
        if alpha <= 0 or beta < 0:
            raise ConfigError(f"alpha must be positive and beta at least 0, found alpha={alpha}, beta={beta}.")
        self.alpha = alpha
        self.beta = beta
        self._start: dict[str, Tensor] = {}

    def setup(self, model: PreTrainedModel, new: Iterable[str]) -> PreTrainedModel:
        """Remembers the pre-trained weights."""
        loaded = pretrained(model, new, self.name)
        # also what is frozen now: unfreeze or probe_then_full may thaw it later
        self._start = {n: p.detach().clone() for n, p in model.named_parameters() if n in loaded}
        return model

    @torch.no_grad()
    def before_step(self, model: PreTrainedModel, lr: float) -> None:
        """Adds the gradient of the penalty to parameters that have a gradient."""
        for name, parameter in model.named_parameters():
            if parameter.grad is None:
                continue
            if (start := self._start.get(name)) is not None:
                parameter.grad.add_(parameter - start.to(parameter.device), alpha=self.alpha)
            else:
                parameter.grad.add_(parameter, alpha=self.beta)

    def weight_decay_scale(self, name: str) -> float:
        """0: the penalty takes the place of weight decay, which would pull towards zero."""
        return 0.0
