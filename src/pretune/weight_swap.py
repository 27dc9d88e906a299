"""Other weights in an encoder for a while: those it started from, random ones; its own come back bit for bit."""

from __future__ import annotations

__all__ = ["Weights", "encoder_weights", "fitting", "holding"]

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

Weights: TypeAlias = Mapping[str, Tensor]
"""Parameters and buffers of an encoder, by their names in its base model."""


def encoder_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """A copy of what the base model holds: parameters, and buffers such as running statistics."""
    return {name: tensor.detach().clone() for name, tensor in _held(model).items()}


def fitting(weights: Weights, model: PreTrainedModel) -> dict[str, Tensor]:
    """Those of the weights that the encoder has too, in the same shape."""
    own = _held(model)
    return {n: w for n, w in weights.items() if n in own and own[n].shape == w.shape}


@contextlib.contextmanager
def holding(model: PreTrainedModel, weights: Weights) -> Iterator[None]:
    """Inside, the encoder has these weights; names that it lacks are an error, names left out keep theirs."""
    own = _held(model)
    kept = {name: own[name].clone() for name in weights}
    try:
        _copy(own, weights)
        yield
    finally:
        _copy(own, kept)


@torch.no_grad()
def _copy(target: Weights, source: Weights) -> None:
    for name, tensor in source.items():
        target[name].copy_(tensor)


def _held(model: PreTrainedModel) -> dict[str, Tensor]:
    base: Any = model.base_model
    held: dict[str, Tensor] = base.state_dict()
    return held
