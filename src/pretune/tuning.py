"""A task on a pre-trained encoder, from its weights to its trained weights: what `finetune` and `study` repeat."""

from __future__ import annotations

__all__ = ["MIN_STEPS", "Folds", "Ready", "Tuning", "check_strategies", "comparable", "ready_to_train", "train"]

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
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


Folds: TypeAlias = Sequence[NDArray[np.int64]]
"""The rows of the training data that each fold of a cross-validation holds out."""


@dataclass(frozen=True)
class Ready:
    """A task whose model is loaded and changed by its strategies, and the learning rate that it will have."""

    method: Task
    strategies: Sequence[Strategy]
    report: TransferReport
    lr: float
    again: Callable[[Sequence[Strategy]], Ready]
    """Starts anew from the same weights and head, with other strategies and their usual learning rate."""


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

    def again(others: Sequence[Strategy]) -> Ready:
        return ready_to_train(method, source, others, weights, lr, seed)

    set_seed(seed)
    report = method.setup_from(weights, source)
    machine.fast_model(method.model)
    method.counted = source.counted
    multiple = method.lr_multiple * max(s.lr_multiple for s in strategies)
    rate = lr or encoder.tuning_lr(method.model.config, multiple, full=method.full_lr_multiple)
    for s in strategies:
        method.model = s.setup(method.model, report.new)
    if not any(p.requires_grad for p in method.model.parameters()):
        raise ConfigError(
            f'"{weights}" already has a head for these labels, so that this strategy freezes every tensor; '
            "start from its pre-trained encoder, or use another strategy."
        )
    return Ready(method, strategies, report, rate, again)


def check_strategies(strategies: Sequence[Strategy], *, validation: bool) -> None:
    """Finds what `train` could not do with these strategies together.

    Args:
        strategies: As they were joined.
        validation: Whether there will be validation data.

    Raises:
        ConfigError: See `Strategy.check`; also two strategies that each decide what is trained.
    """
    several = [s.name for s in strategies if s.repeats]
    if len(several) > 1:
        raise ConfigError(
            f"{' and '.join(several)} each decide what is trained, and cannot be joined; use one of them."
        )
    for one in strategies:
        one.check([s for s in strategies if s is not one], validation=validation)


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
    labels: Sequence[Any] = (),
    folds: Folds = (),
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
        labels: Raw labels of `examples`, for strategies that cross-validate.
        folds: Of `examples`, as many as a strategy's `num_folds` says.
        loop: More of `fit`.
    """
    for s in ready.strategies:
        if s.num_folds != len(folds):
            raise ConfigError(
                f'Strategy "{s.name}" cross-validates the training data, which finetune alone makes possible.'
            )
    options = {"budget": budget, "min_steps": min_steps, "batch_size": batch_size, "seed": seed}
    tuning = Tuning(ready, examples, labels, held, held_labels, run, state, folds, options | loop)
    conductor = next((s for s in ready.strategies if s.repeats), None)
    if conductor is not None:
        fitted = conductor.conduct(tuning)
    else:
        # written out, since the command line finds the options of `fit` by following **loop
        fitted = _fit(ready, examples, held, held_labels, run, state, budget, min_steps, batch_size, seed, **loop)
    selected = {s.name: s.select(ready.method.model, tuning.score) for s in ready.strategies if s.selects}
    if not selected:
        return fitted
    best = tuning.metrics() if held else fitted.best
    return replace(fitted, best=best, selection=fitted.selection | selected)


def _fit(
    ready: Ready,
    examples: Sequence[Example],
    held: Sequence[Example],
    held_labels: Sequence[Any],
    run: RunDirectory,
    state: State | None,
    budget: str,
    min_steps: int | None,
    batch_size: int,
    seed: int,
    **loop: Any,
) -> FitResult:
    """Trains the model that is ready, once, with what is frozen computed once."""
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
            validate=(lambda: _metrics(method, kept, held_labels)) if held else None,
            primary=method.primary if held else None,
            **loop,
        )
    for s in ready.strategies:
        method.model = s.finish(method.model)
    return fitted


@dataclass(frozen=True)
class Tuning:
    """One fine-tuning, in a form that strategies can repeat, vary and score.

    Attributes:
        ready: The task with its model and strategies.
        examples: Training examples.
        labels: Their raw labels.
        held: Validation examples; may be empty.
        held_labels: Their raw labels.
        run: The run directory; what belongs to one of several trainings lies below its ``checkpoints``.
        state: Of an interrupted training in `run` itself.
        folds: Of `examples`, for a cross-validation.
        options: What `train` takes besides.
    """

    ready: Ready
    examples: Sequence[Example]
    labels: Sequence[Any]
    held: Sequence[Example]
    held_labels: Sequence[Any]
    run: RunDirectory
    state: State | None
    folds: Folds
    options: Mapping[str, Any]

    def once(
        self,
        strategies: Sequence[Strategy],
        *,
        folder: str | None = None,
        rows: Sequence[int] | None = None,
        lr_factor: float = 1.0,
        seed: int | None = None,
    ) -> FitResult:
        """Trains a fresh model from the same pre-trained weights; it is left in the task.

        Args:
            strategies: Fresh ones.
            folder: Below the run's ``checkpoints``; None: this is the final training, in the run itself.
            rows: The training examples to use; None: all.
            lr_factor: Times the usual learning rate of the strategies.
            seed: Of data order and dropout; None: that of the run. The head starts the same every time.
        """
        fresh = self.ready.again(strategies)
        fresh = replace(fresh, lr=fresh.lr * lr_factor)
        options = dict(self.options) | ({} if seed is None else {"seed": seed})
        run, state = self.run, self.state
        if folder is not None:
            options["tracker"] = None
            run = RunDirectory(self.run.path / "checkpoints" / folder)
            facts = {"verb": "finetune", "strategy": [s.spec() for s in strategies], "lr": fresh.lr} | options
            with machine.main_first():
                state = run.open(facts, overwrite=True)
        examples = self.examples if rows is None else [self.examples[i] for i in rows]
        return train(fresh, examples, self.held, self.held_labels, run=run, state=state, **options)

    def metrics(self, rows: Sequence[int] | None = None) -> dict[str, float]:
        """Metrics of the task's model as it stands: on validation data, or on these rows of the training data."""
        method = self.ready.method
        method.to(machine.device())
        if rows is None:
            return _metrics(method, self.held, self.held_labels)
        return _metrics(method, [self.examples[i] for i in rows], [self.labels[i] for i in rows])

    def score(self, rows: Sequence[int] | None = None) -> float:
        """The primary one of `metrics`; higher is better."""
        return float(self.metrics(rows)[self.ready.method.primary])


def _metrics(method: Task, examples: Sequence[Example], labels: Sequence[Any]) -> dict[str, float]:
    return method.metrics(evaluation.predictions(method, examples), labels)


def comparable(score: float) -> float:
    """A score for comparisons: one that is not a number (a correlation of constants) is below all others."""
    return -math.inf if math.isnan(score) else score
