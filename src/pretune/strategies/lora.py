"""LoRA: low-rank updates beside frozen pre-trained weights (peft)."""

from __future__ import annotations

__all__ = ["LoRA"]

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

import peft
from torch import nn
from transformers import PreTrainedModel

from pretune.encoder import depths, num_layers
from pretune.errors import ConfigError
from pretune.strategies.base import Range, Strategy
from pretune.strategies.freeze import pretrained


class LoRA(Strategy):
    """Trains ``scale * B @ A`` beside linear layers, and the head.

    Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". New parameters are trained in
    place under their own names, so that the head is part of either export.

    Args:
        rank: Rank of the update.
        alpha: The update is scaled by ``alpha / rank``.
        dropout: Dropout rate on the input of the update.
        target_modules: Names (or ends of names) of the linear layers; None: all linear layers in the
            encoder's blocks, or its convolutions where it has none (ResNet).
        merge: Export one plain model with the updates added to its weights; otherwise an adapter directory
            of peft.
    """

    searched: ClassVar[Mapping[str, Range]] = {"rank": Range(2, 32, log=True)}

    def __init__(
        self,
        *,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        target_modules: Sequence[str] | None = None,
        merge: bool = True,
    ) -> None:
        if rank < 1 or alpha <= 0 or not 0 <= dropout < 1:
            raise ConfigError(
                "LoRA needs rank >= 1, alpha > 0 and dropout in [0, 1); "
                f"found rank={rank}, alpha={alpha}, dropout={dropout}."
            )
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.target_modules = target_modules
        self.merge = merge
        self._new: frozenset[str] = frozenset()
        self._wrapped: Any = None

    @property
    def lr_multiple(self) -> float:
        """10, as low-rank updates are usually trained (Hu et al. 2021)."""
        return 10.0

    @property
    def leaves_plain(self) -> bool:
        """False where the updates stay beside the weights."""
        return self.merge

    def check(self, others: Sequence[Strategy], *, validation: bool) -> None:
        """Refuses an encoder that never moves.

        Raises:
            ConfigError: Another strategy freezes all of it.
        """
        for other in others:
            if other.frozen_throughout:
                raise ConfigError(
                    f'Strategy "lora" changes what the encoder says, and "{other.name}" computes that once; use one of '
                    "them (--strategy.layers freezes the lowest blocks alone)."
                )

    def setup(self, model: PreTrainedModel, new: Iterable[str]) -> PreTrainedModel:
        """Adds the low-rank updates inside `model` (the same object) and freezes what was loaded.

        Raises:
            ConfigError: From scratch, or no such target modules.
        """
        self._new = frozenset(new)
        pretrained(model, self._new, self.name)
        targets = list(self.target_modules or _linear_in_blocks(model))
        config = peft.LoraConfig(
            r=self.rank, lora_alpha=cast(int, self.alpha), lora_dropout=self.dropout, target_modules=targets
        )
        try:
            self._wrapped = peft.PeftModel(model, config)
        except ValueError as error:
            raise ConfigError(f"LoRA cannot use target_modules={targets}: {error}") from error
        for name, parameter in model.named_parameters():
            if name in self._new:
                parameter.requires_grad_(True)
        return model

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """The merged plain model, or a `peft.PeftModel` whose ``save_pretrained`` writes adapter and head."""
        if self.merge:
            return cast(PreTrainedModel, self._wrapped.merge_and_unload())
        return self._adapter()

    def _adapter(self) -> PreTrainedModel:
        """Wraps once more, with the modules that hold new parameters named for saving (as they now are)."""
        config = self._wrapped.peft_config["default"]
        updates = peft.get_peft_model_state_dict(self._wrapped)
        head = {f"base_model.model.{n}": p for n, p in self._wrapped.model.named_parameters() if n in self._new}
        config.modules_to_save = sorted({name.rpartition(".")[0] for name in self._new})
        wrapped = peft.PeftModel(self._wrapped.unload(), config)
        peft.set_peft_model_state_dict(wrapped, updates | head)
        return cast(PreTrainedModel, wrapped)


def _linear_in_blocks(model: PreTrainedModel) -> list[str]:
    """Full names of the linear layers whose weights lie in the encoder's blocks; without any, of its convolutions."""
    table, top = depths(model), num_layers(model)
    inside = {n: m for n, m in model.named_modules() if 1 <= table.get(f"{n}.weight", 0) <= top}
    linear = [name for name, module in inside.items() if isinstance(module, nn.Linear)]
    return linear or [name for name, module in inside.items() if isinstance(module, nn.Conv2d)]
