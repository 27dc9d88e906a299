"""The encoder, or its lowest layers, stays as it was pre-trained; the head is trained on it."""

from __future__ import annotations

__all__ = ["Freeze", "pretrained", "release", "set_trainable"]

from collections.abc import Collection, Iterable
from types import MethodType

from torch import nn
from transformers import PreTrainedModel

from pretune.encoder import depths, num_layers
from pretune.errors import ConfigError
from pretune.strategies.base import Strategy


class Freeze(Strategy):
    """Freezes the whole encoder (a probe) or its lowest layers.

    Frozen modules run without dropout, as at prediction time: that makes them a fixed function, whose
    outputs can be computed once and replayed (`pretune.features`).

    Args:
        layers: Number of lowest blocks to freeze, with the embeddings; 0 freezes the embeddings alone, None
            everything that was pre-trained.
    """

    def __init__(self, *, layers: int | None = None) -> None:
        if layers is not None and layers < 0:
            raise ConfigError(f"layers must be 0 or more, found {layers}.")
        self.layers = layers

    @property
    def lr_multiple(self) -> float:
        """30 for the probe, which trains a head alone."""
        return 30.0 if self.layers is None else 1.0

    def setup(self, model: PreTrainedModel, new: Iterable[str]) -> PreTrainedModel:
        """Freezes what was loaded, up to block `layers`.

        Raises:
            ConfigError: The model is from scratch, or has fewer blocks.
        """
        frozen = pretrained(model, new, self.name)
        if self.layers is not None:
            if self.layers > num_layers(model):
                raise ConfigError(f"layers is {self.layers}, and the encoder has {num_layers(model)} blocks.")
            table = depths(model)
            frozen = {name for name in frozen if table[name] <= self.layers}
        set_trainable(model, {n for n, p in model.named_parameters() if p.requires_grad} - frozen)
        return model

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """Lets the frozen modules follow ``train()`` again."""
        release(model)
        return model

    @property
    def frozen_throughout(self) -> bool:
        """True for the probe; with `layers`, see ``FrozenFeatures(layers=...)``."""
        return self.layers is None


def pretrained(model: nn.Module, new: Iterable[str], strategy: str) -> set[str]:
    """Names of the parameters that came from a checkpoint.

    Raises:
        ConfigError: There are none, so that the strategy would have nothing to act on.
    """
    # LoRA's factors, added by a strategy before this one, are new as well
    loaded = {name for name, _ in model.named_parameters() if ".lora_" not in name} - set(new)
    if not loaded:
        raise ConfigError(
            f'Strategy "{strategy}" acts on pre-trained weights, and this model starts from scratch; '
            'give a checkpoint to start from, or use the strategy "full".'
        )
    return loaded


def set_trainable(model: nn.Module, names: Collection[str]) -> bool:
    """Makes exactly the parameters in `names` trainable; modules without any run in eval mode until released.

    Returns:
        True when a parameter changed.
    """
    changed = False
    for name, parameter in model.named_parameters():
        changed |= parameter.requires_grad is not (name in names)
        parameter.requires_grad_(name in names)
    release(model)
    _hold_frozen(model)
    return changed


def release(model: nn.Module) -> None:
    """Lets all modules follow ``model.train()`` again."""
    for module in model.modules():
        module.__dict__.pop("train", None)
    model.train(model.training)


def _hold_frozen(module: nn.Module) -> None:
    """Keeps the outermost modules whose parameters are all frozen in eval mode, whatever ``train()`` says."""
    parameters = list(module.parameters())
    if not parameters:
        return
    if any(p.requires_grad for p in parameters):
        for child in module.children():
            _hold_frozen(child)
        return
    module.eval()
    module.__dict__["train"] = MethodType(_stay, module)


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module
