"""The one training loop: pre-training and fine-tuning, any modality, on Accelerate."""

from __future__ import annotations

__all__ = ["FitResult", "Interrupted", "check_options", "fit"]

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, LoggerType, broadcast_object_list
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader

from pretune import machine, optim
from pretune.batching import Order
from pretune.budget import Budget, Plan
from pretune.checkpoint import RunDirectory, State
from pretune.errors import ConfigError, NumericsError, PretuneError, did_you_mean
from pretune.limits import check_numbers
from pretune.loop import Loop, NotFinite, Steps, load_tensors, own_tensors
from pretune.modalities.base import Batch, Example
from pretune.objectives.base import Floor, Objective
from pretune.progress import Console, StopRequest, interruptible
from pretune.strategies.base import Strategy

_CALIBRATION_SECONDS = 4.0
_LOGGED_ROWS = 500


class Interrupted(PretuneError):
    """Ctrl-C: the state is saved and the same command goes on from there."""


@dataclass
class FitResult:
    """What a training run did.

    Attributes:
        steps: Optimiser steps.
        tokens: Input seen (tokens, images, or seconds of sound).
        seconds: Wall time, over all resumptions.
        best: Best validation metrics (the weights that are kept), or the last ones when nothing chooses.
        forecast: What calibration promised.
        lr: Peak learning rate.
        selection: What strategies decided by scores, by the name of the strategy.
    """

    steps: int
    tokens: float
    seconds: float
    best: dict[str, float] = field(default_factory=dict)
    forecast: dict[str, float] = field(default_factory=dict)
    lr: float = 0.0
    selection: dict[str, Any] = field(default_factory=dict)


def fit(
    objective: Objective,
    examples: Sequence[Example],
    *,
    run: RunDirectory,
    budget: str,
    batch_size: int,
    lr: float,
    seed: int,
    state: State | None = None,
    strategies: Sequence[Strategy] = (),
    lengths: Sequence[int] | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    primary: str | None = None,
    floor: Floor | None = None,
    min_steps: int = 1,
    num_micro_batches: int = 1,
    num_validations: int = 10,
    patience: int = 0,
    optimizer: str = "adamw",
    schedule: str = "linear",
    warmup_rate: float = 0.06,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    ema: float = 0.0,
    precision: str | None = None,
    checkpoint_every: str = "5m",
    tracker: str | None = None,
    num_workers: int = 0,
) -> FitResult:
    """Trains `objective` on `examples` for exactly `budget`; leaves the best (or last) weights in it.

    Every random choice of a step follows from (seed, step): a killed run that is repeated ends with the same bits.

    Args:
        objective: Set up; its parameters are trained in place.
        examples: Indexable.
        run: Where checkpoints and metrics go.
        budget: See `pretune.budget.Budget.parse`.
        batch_size: Examples in an optimiser step, over all processes and micro-batches.
        lr: Peak learning rate.
        seed: Of data order, masking noise and dropout.
        state: To resume from.
        strategies: Applied in order.
        lengths: Length of each example, for length buckets.
        validate: Held-out metrics of the objective as it stands.
        primary: Metric of `validate` that chooses the kept weights, higher is better; None keeps the last.
        floor: A reference value, printed beside the loss.
        min_steps: Least steps for budgets in epochs; few labels need enough steps (Mosbach et al. 2021).
        num_micro_batches: Gradient accumulation: parts of the batch that are computed one after the other.
        num_validations: How often to validate over the budget.
        patience: Stop after this many validations without improvement; 0 never stops early.
        optimizer: ``adamw`` or ``muon``.
        schedule: ``linear``, ``cosine``, ``wsd`` or ``constant``, after warm-up, ending with the budget.
        warmup_rate: Share of the budget over which the rate rises.
        weight_decay: Decoupled, on matrices only.
        max_grad_norm: Gradients are scaled down to this norm; 0 does not clip.
        ema: Decay of an exponential moving average of the weights that is validated and exported; 0 is off.
        precision: ``bf16`` or ``fp32``; not given: bf16 where the hardware is faster in it.
        checkpoint_every: Time or steps between checkpoints ("5m", "500steps").
        tracker: An experiment tracker that Accelerate knows, e.g. ``tensorboard``.
        num_workers: Processes that prepare batches.

    Raises:
        NumericsError: Loss or gradient became NaN or infinite; the batch is saved beside the checkpoints.
        Interrupted: Ctrl-C; the state is saved.
    """
    limit, saving = Budget.parse(budget), Budget.parse(checkpoint_every)
    accelerator = _accelerator(precision, tracker, run)
    machine.keep_freed_memory()
    objective.to(accelerator.device).train()
    optimizers = optim.build(
        objective, optimizer=optimizer, lr=lr, weight_decay=weight_decay, betas=objective.betas, strategies=strategies
    )
    loop = Loop(objective, accelerator, optimizers, strategies, Plan(1), seed, max_grad_norm, ema)
    order = Order(len(examples), min(batch_size, len(examples)), seed=seed, lengths=lengths)
    steps = _steps(objective, examples, order, seed, num_micro_batches, accelerator)
    loop.started = time.monotonic()
    forecast = _begin(loop, steps, limit, order, min_steps, state, run)
    drive = _Drive(
        loop, limit, run, Console(accelerator, floor, objective.counted), validate, primary, patience, num_validations,
        schedule, warmup_rate, saving,
    )  # fmt: skip
    drive.console.start(loop, forecast, order.steps_per_epoch, machine.describe(accelerator.device))
    loader = DataLoader(steps, batch_size=None, sampler=count(loop.step), num_workers=num_workers)
    try:
        with machine.repeatable(), interruptible() as stop, drive.console:
            drive.run(iter(loader), stop)
    except NotFinite as error:
        raise _named(error, loop, run) from error
    finally:
        for logger in accelerator.trackers:
            logger.finish()
    _leave_best(loop)
    return FitResult(loop.step, loop.tokens, loop.elapsed, loop.best, forecast, lr)


def check_options(budget: str, batch_size: int, loop: Mapping[str, Any]) -> None:
    """Finds what `fit` would refuse, before any data is read.

    Raises:
        ConfigError: An unknown option, or a value that cannot work.
    """
    parameters = inspect.signature(fit).parameters
    known = list(parameters)[list(parameters).index("num_micro_batches") :]
    for name in loop.keys() - set(known):
        raise ConfigError(f'There is no option "{name}".{did_you_mean(name, known)}')
    check_numbers({"batch_size": batch_size, **loop})
    _check_parts(batch_size, loop.get("num_micro_batches", 1))
    _check_tracker(loop.get("tracker"))
    Budget.parse(budget)
    Budget.parse(loop.get("checkpoint_every", "5m"), "checkpoint_every")
    optim.lr_factor(loop.get("schedule", "linear"), 1.0, 0.0)
    machine.precision_for(torch.device("cpu"), loop.get("precision") or "fp32")
    if (optimizer := loop.get("optimizer", "adamw")) not in optim.OPTIMIZERS:
        raise ConfigError(f'There is no optimizer "{optimizer}"; there are: {", ".join(optim.OPTIMIZERS)}.')


def _check_parts(batch_size: int, parts: int) -> None:
    if parts > batch_size:
        raise ConfigError(f"A batch of {batch_size} cannot be cut into {parts} micro-batches; use fewer.")


def _check_tracker(name: str | None) -> None:
    known = [str(kind) for kind in LoggerType if kind != LoggerType.ALL]
    if name is None:
        return
    if name not in known:
        raise ConfigError(f'There is no tracker "{name}"; there are: {", ".join(known)}.{did_you_mean(name, known)}')
    if name not in map(str, get_available_trackers()):
        raise ConfigError(f'The tracker "{name}" is not installed; install its package, or leave --tracker out.')


@dataclass
class _Drive:
    """Decides after each step what else is due: validation, log, checkpoint, a corrected plan, the end."""

    loop: Loop
    limit: Budget
    out: RunDirectory
    console: Console
    validate: Callable[[], dict[str, float]] | None
    primary: str | None
    patience: int
    num_validations: int
    schedule: str
    warmup_rate: float
    saving: Budget
    step_seconds: float = 0.0
    validation_seconds: float = 0.0
    next_plan: int = 0
    last_save: float = field(default_factory=time.monotonic)
    last_save_step: int = 0

    def run(self, batches: Iterator[list[Batch]], stop: StopRequest) -> None:
        loop = self.loop
        self.last_save_step = loop.step
        while (before := loop.plan.progress(loop.step)) < 1.0:
            if _thaw(loop, before):
                loop.wrap()
            began = time.monotonic()
            logs = loop.train_step(next(batches), self._lr_factor(loop.plan.progress(loop.step + 0.5)))
            self._clock(time.monotonic() - began)
            after = loop.plan.progress(loop.step)
            self.console.step(loop, logs)
            if _crosses(before, after, _LOGGED_ROWS):
                self._log(logs | {"lr": loop.optimizers[0].param_groups[0]["lr"]})
            if self.validate is not None and _crosses(before, after, self.num_validations):
                self._validate()
                if self.patience and loop.stale >= self.patience:
                    self.console.note(f"stopped early at step {loop.step}: {loop.stale} validations without gain")
                    return
            self._stop_or_save(stop)

    def _lr_factor(self, progress: float) -> float:
        own = math.prod([1.0, *(s.lr_factor(progress) for s in self.loop.strategies)])
        return own * optim.lr_factor(self.schedule, progress, self.warmup_rate)

    def _clock(self, seconds: float) -> None:
        """Keeps the plan of a timed budget aimed at its end."""
        self.step_seconds = 0.9 * self.step_seconds + 0.1 * seconds if self.step_seconds else seconds
        loop = self.loop
        if not self.limit.timed or loop.step < self.next_plan:
            return
        left = math.ceil(self.num_validations * (1.0 - loop.plan.progress(loop.step)) - 1e-9)
        reserve = self.validation_seconds * left if self.validate is not None else 0.0
        seconds_left = self.limit.amount - loop.elapsed - reserve
        end = loop.step + max(0, round(seconds_left / self.step_seconds))
        if loop.accelerator.num_processes > 1:
            end = int(broadcast_object_list([end])[0])
        loop.plan.replan(loop.step, end)
        self.next_plan = loop.step + max(1, (end - loop.step) // 20)

    def _validate(self) -> None:
        assert self.validate is not None
        began = time.monotonic()
        with self.loop.averaged(), torch.no_grad():
            metrics = self.validate()
        self.loop.objective.train()
        self.loop.keep_if_best(metrics, self.primary)
        self.validation_seconds = time.monotonic() - began
        self.console.validation(self.loop, metrics)
        self._log({f"valid_{k}": v for k, v in metrics.items()})

    def _log(self, values: dict[str, float]) -> None:
        loop = self.loop
        row = {"step": loop.step, "tokens": round(loop.tokens, 1), "seconds": round(loop.elapsed, 3), **values}
        if loop.accelerator.is_main_process:
            self.out.log(row)
        loop.accelerator.log(values, step=loop.step)

    def _stop_or_save(self, stop: StopRequest) -> None:
        stopping = stop.requested
        if self.loop.accelerator.num_processes > 1:
            flag = torch.tensor([float(stopping)], device=self.loop.accelerator.device)
            stopping = bool(self.loop.accelerator.reduce(flag, "sum").item())
        due = self.loop.step - self.last_save_step >= self.saving.amount
        if self.saving.timed:
            due = time.monotonic() - self.last_save >= self.saving.amount
        if (due or stopping) and self.loop.accelerator.is_main_process:
            self.out.save(self.loop.state(), self.loop.step)
        if due or stopping:
            self.last_save, self.last_save_step = time.monotonic(), self.loop.step
        if stopping:
            raise Interrupted(f"Stopped at step {self.loop.step}, saved. Run the same command again to go on.")


def _accelerator(precision: str | None, tracker: str | None, run: RunDirectory) -> Accelerator:
    AcceleratorState._reset_state()  # an earlier fit of this process may have had another precision
    cpu = not torch.accelerator.is_available()  # accelerate starts gloo processes only when told so
    device = PartialState(cpu=cpu).device
    mixed = "bf16" if machine.agreed(machine.precision_for(device, precision)) == "bf16" else "no"
    ddp = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(
        cpu=cpu, mixed_precision=mixed, log_with=tracker, project_dir=str(run.path), kwargs_handlers=[ddp]
    )
    accelerator.init_trackers("tracker")
    return accelerator


def _steps(
    objective: Objective,
    examples: Sequence[Example],
    order: Order,
    seed: int,
    num_micro_batches: int,
    accelerator: Accelerator,
) -> Steps:
    total = num_micro_batches * accelerator.num_processes
    _check_parts(order.batch_size, total)
    first = accelerator.process_index * num_micro_batches
    return Steps(objective, examples, order, seed, range(first, first + num_micro_batches), total)


def _begin(
    loop: Loop,
    steps: Steps,
    limit: Budget,
    order: Order,
    min_steps: int,
    state: State | None,
    run: RunDirectory,
) -> dict[str, float]:
    """Resumes, or plans the budget; either way the module is wrapped for its first step."""
    _thaw(loop, 0.0)
    loop.wrap()
    if state is not None:
        loop.restore(state)
    if loop.accelerator.is_main_process:
        run.rewind_log(loop.step)  # also of a run that was killed before its first checkpoint
    if state is not None:
        return {}
    seconds, tokens = _calibrate(loop, steps, limit) if limit.unit in ("seconds", "tokens") else (0.0, 1.0)
    total = limit.steps(steps_per_epoch=order.steps_per_epoch, tokens_per_step=tokens, seconds_per_step=seconds or 1.0)
    if limit.unit == "epochs":
        total = max(total, min_steps)
    if loop.accelerator.num_processes > 1:
        total = int(broadcast_object_list([total])[0])
    loop.plan = Plan(total)
    return {"steps": total, "tokens": total * tokens, "seconds": total * seconds} if seconds else {"steps": total}


def _calibrate(loop: Loop, steps: Steps, limit: Budget) -> tuple[float, float]:
    """Seconds and tokens of a step, from real steps whose effect is undone."""
    saved = {n: t.detach().clone() for n, t in own_tensors(loop.objective).items()}
    patience = min(_CALIBRATION_SECONDS, 0.1 * limit.amount) if limit.timed else _CALIBRATION_SECONDS
    began = time.monotonic()
    times: list[float] = []
    while not times or _agreed(loop, time.monotonic() - began < patience and len(times) < 20):
        at = time.monotonic()
        loop.train_step(steps[len(times)], 0.0)
        times.append(time.monotonic() - at)
    tokens = loop.tokens / len(times)
    loop.step = loop.tokens = 0
    loop.average.clear()
    for optimizer in loop.optimizers:
        optimizer.state.clear()
    load_tensors(loop.objective, saved)
    return sorted(times)[len(times) // 2], tokens


def _agreed(loop: Loop, answer: bool) -> bool:
    """The main process's answer: processes that take different numbers of steps wait for each other forever."""
    return bool(broadcast_object_list([answer])[0]) if loop.accelerator.num_processes > 1 else answer


def _thaw(loop: Loop, progress: float) -> bool:
    changed = [s.thaw(loop.model, progress) for s in loop.strategies]
    return any(changed)


def _crosses(before: float, after: float, parts: int) -> bool:
    """Whether a multiple of 1/parts lies in (before, after]."""
    return math.floor(after * parts + 1e-9) > math.floor(before * parts + 1e-9)


def _leave_best(loop: Loop) -> None:
    if loop.kept:
        load_tensors(loop.objective, loop.kept)
    elif loop.average:
        load_tensors(loop.objective, loop.average)
    loop.objective.eval()


def _named(error: NotFinite, loop: Loop, run: RunDirectory) -> NumericsError:
    file = run.path / f"failed-step-{loop.step}.safetensors"
    tensors = {k: v.contiguous() for k, v in error.batch.items() if isinstance(v, Tensor)}
    if tensors:
        save_file(tensors, file)
    where = f"; the batch is in {file}" if tensors else ""
    return NumericsError(f"At step {loop.step} {error}{where}. Try a lower --lr, or --precision fp32.")
