"""Parameter groups, optimisers and the learning-rate schedules."""

from __future__ import annotations

__all__ = ["OPTIMIZERS", "SCHEDULES", "build", "lr_factor", "set_lr"]

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pretune import encoder
from pretune.errors import ConfigError
from pretune.strategies.base import Strategy

OPTIMIZERS = ("adamw", "muon")


def _linear(progress: float) -> float:
    return 1.0 - progress


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _constant(progress: float) -> float:
    return 1.0


def _wsd(progress: float) -> float:
    return 1.0 if progress < 0.7 else 1.0 - math.sqrt((progress - 0.7) / 0.3)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "linear": _linear,
    "wsd": _wsd,
}
"""Decay after warm-up, over the rest of the budget. wsd: warm-up, stable, 1-sqrt decay (Hägele et al. 2024)."""


def lr_factor(schedule: str, progress: float, warmup_rate: float) -> float:
    """Factor on the peak learning rate at this share of the budget.

    Raises:
        ConfigError: An unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise ConfigError(f'There is no schedule "{schedule}"; there are: {", ".join(SCHEDULES)}.')
    if progress < warmup_rate:
        return progress / warmup_rate
    return SCHEDULES[schedule]((progress - warmup_rate) / max(1e-9, 1.0 - warmup_rate))


def build(
    module: nn.Module,
    *,
    optimizer: str,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    strategies: Sequence[Strategy] = (),
) -> list[Optimizer]:
    """One or two optimisers over all parameters that may ever be trained.

    AdamW is bias-corrected and fused (Mosbach et al. 2021 on why the correction matters for few labels). Muon
    (Jordan et al. 2024) takes the matrices of the encoder's blocks; embeddings, heads and vectors stay with AdamW.

    Args:
        module: The objective or task.
        optimizer: One of `OPTIMIZERS`.
        lr: Peak learning rate; each group's ``peak`` is this times the strategies' `lr_scale`.
        weight_decay: Decoupled, on matrices only.
        betas: Of Adam.
        strategies: Each may scale the rate of each parameter.

    Raises:
        ConfigError: An unknown optimiser.
    """
    if optimizer not in OPTIMIZERS:
        raise ConfigError(f'There is no optimizer "{optimizer}"; there are: {", ".join(OPTIMIZERS)}.')
    groups = _groups(module, lr, weight_decay, strategies)
    if optimizer == "adamw":
        return [_adamw(groups, lr, betas)]
    hidden = _hidden_matrices(module)
    muon = [g | {"params": kept} for g in groups if (kept := [p for p in g["params"] if id(p) in hidden])]
    rest = [g | {"params": kept} for g in groups if (kept := [p for p in g["params"] if id(p) not in hidden])]
    found: list[Optimizer] = [_adamw(rest, lr, betas)] if rest else []
    return [*found, torch.optim.Muon(muon, lr=lr, adjust_lr_fn="match_rms_adamw")] if muon else found


def _adamw(groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> Optimizer:
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)


def _groups(module: nn.Module, lr: float, weight_decay: float, strategies: Sequence[Strategy]) -> list[dict[str, Any]]:
    model: Any = getattr(module, "model", module)
    inner = {id(p): n for n, p in model.named_parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        local = inner.get(id(parameter), name)
        scale = math.prod([1.0, *(s.lr_scale(local, parameter, model) for s in strategies)])
        decay_scale = math.prod([1.0, *(s.weight_decay_scale(local) for s in strategies)])
        decay = weight_decay * decay_scale if parameter.ndim >= 2 else 0.0
        groups.setdefault((lr * scale, decay), []).append(parameter)
    return [
        {"params": params, "lr": peak, "peak": peak, "weight_decay": decay} for (peak, decay), params in groups.items()
    ]


def _hidden_matrices(module: nn.Module) -> set[int]:
    model = getattr(module, "model", module)
    table, top = encoder.depths(model), encoder.num_layers(model)
    return {id(p) for n, p in model.named_parameters() if p.ndim == 2 and 1 <= table[n] <= top}


def set_lr(optimizers: Sequence[Optimizer], factor: float) -> None:
    """Sets every group's rate to its peak times `factor`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
