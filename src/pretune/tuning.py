"""A task on a pre-trained encoder, from its weights to its trained weights: what `finetune` and `study` repeat."""

from __future__ import annotations

__all__ = ["MIN_STEPS", "Ready", "ready_to_train", "train"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import set_seed

from pretune import encoder, evaluation, machine
from pretune.checkpoint import RunDirectory, State
from pretune.encoder import TransferReport
from pretune.errors import ConfigError
from pretune.features import cached
from pretune.modalities.base import Example, Modality
from pretune.strategies.base import Strategy
from pretune.tasks.base import Task
from pretune.train import FitResult, fit

MIN_STEPS = 200
"""Least steps of a budget in epochs, where nothing else is said (Mosbach et al. 2021)."""


@dataclass(frozen=True)
class Ready:
    """A task whose model is loaded and changed by its strategies, and the learning rate that it will have."""

    method: Task
    strategies: Sequence[Strategy]
    report: TransferReport
    lr: float


def ready_to_train(
    method: Task, source: Modality, strategies: Sequence[Strategy], weights: encoder.Source, lr: float | None, seed: int
) -> Ready:
    """Builds or loads the model, and lets the strategies freeze, wrap or remember its weights.

    Args:
        method: Has learnt its labels.
        source: Prepared, as by `pretraining.prepare`.
        strategies: Applied in order.
        weights: What to load, or the config to build from scratch.
        lr: Peak learning rate; None: that of the width, times what task and strategies ask for.
        seed: Of the head.

    Raises:
        ConfigError: Nothing would be trained.
    """
    set_seed(seed)
    report = method.setup_from(weights, source)
    machine.fast_attention(method.model)
    method.counted = source.counted
    multiple = method.lr_multiple * max(s.lr_multiple for s in strategies)
    rate = lr or encoder.tuning_lr(method.model.config, multiple)
    for s in strategies:
        method.model = s.setup(method.model, report.new)
    if not any(p.requires_grad for p in method.model.parameters()):
        raise ConfigError(
            f'"{weights}" already has a head for these labels, so that this strategy freezes every tensor; '
            "start from its pre-trained encoder, or use another strategy."
        )
    return Ready(method, strategies, report, rate)


def train(
    ready: Ready,
    examples: Sequence[Example],
    held: Sequence[Example],
    held_labels: Sequence[Any],
    *,
    run: RunDirectory,
    state: State | None,
    budget: str,
    min_steps: int | None,
    batch_size: int,
    seed: int,
    **loop: Any,
) -> FitResult:
    """Trains in place: the best weights by validation, or the last without any, are left in ``ready.method.model``.

    Args:
        ready: From `ready_to_train`.
        examples: With encoded labels.
        held: Validation examples; may be empty.
        held_labels: Their raw labels.
        run: Where checkpoints and metrics go.
        state: To resume from.
        budget: When to stop.
        min_steps: Least steps of a budget in epochs; None: `MIN_STEPS`.
        batch_size: Examples in an optimiser step.
        seed: Of data order and dropout.
        loop: More of `fit`.
    """
    method = ready.method
    with cached(method, ready.strategies, examples, held) as (seen, kept):
        fitted = fit(
            method,
            seen,
            run=run,
            budget=budget,
            min_steps=MIN_STEPS if min_steps is None else min_steps,
            batch_size=batch_size,
            lr=ready.lr,
            seed=seed,
            state=state,
            strategies=ready.strategies,
            floor=None,
            lengths=[method.modality.length(e) for e in examples],
            validate=(lambda: method.metrics(evaluation.predictions(method, kept), held_labels)) if held else None,
            primary=method.primary if held else None,
            **loop,
        )
    for s in ready.strategies:
        method.model = s.finish(method.model)
    return fitted
