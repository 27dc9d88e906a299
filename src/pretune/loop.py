"""One optimiser step and everything that changes while training: what a checkpoint must hold."""

from __future__ import annotations

__all__ = ["Loop", "NotFinite", "Steps", "load_tensors", "own_tensors"]

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset

from pretune import machine, optim
from pretune.batching import Order, step_rng, step_seed
from pretune.budget import Plan
from pretune.checkpoint import State, optimizer_tensors, restore_optimizer
from pretune.modalities.base import Batch, Example
from pretune.objectives.base import Objective
from pretune.strategies.base import Strategy


class Steps(Dataset[list[Batch]]):
    """The micro-batches of a step that belong to this process."""

    def __init__(
        self,
        objective: Objective,
        examples: Sequence[Example],
        order: Order,
        seed: int,
        parts: range,
        total: int,
    ) -> None:
        self.objective, self.examples, self.order = objective, examples, order
        self.seed, self.parts, self.total = seed, parts, total

    def __getitem__(self, step: int) -> list[Batch]:
        indices = self.order[step]
        size, extra = divmod(len(indices), self.total)
        starts = [p * size + min(p, extra) for p in range(self.total + 1)]
        return [self._part(step, p, indices[starts[p] : starts[p + 1]]) for p in self.parts]

    def _part(self, step: int, part: int, indices: Any) -> Batch:
        chosen = [self.examples[int(i)] for i in indices]
        return self.objective.collate(chosen, step_rng(self.seed, step, part))


@dataclass
class Loop:
    """Everything that changes while fitting."""

    objective: Objective
    accelerator: Accelerator
    optimizers: list[torch.optim.Optimizer]
    strategies: Sequence[Strategy]
    plan: Plan
    seed: int
    max_grad_norm: float
    ema: float
    wrapped: Any = None
    trainable: Sequence[Tensor] = ()
    step: int = 0
    tokens: float = 0
    seconds: float = 0.0
    started: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    best_score: float = -math.inf
    stale: int = 0
    kept: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)

    @property
    def elapsed(self) -> float:
        """Seconds over all resumptions."""
        return self.seconds + time.monotonic() - self.started

    @property
    def model(self) -> Any:
        """The transformers model that strategies look at."""
        return getattr(self.objective, "model", self.objective)

    def wrap(self) -> None:
        """(Re-)wraps for DDP; must follow every change of what is trainable."""
        self.trainable = [p for p in self.objective.parameters() if p.requires_grad]
        if self.accelerator.num_processes == 1:
            self.wrapped = self.objective
            return
        self.wrapped = self.accelerator.prepare_model(self.objective, device_placement=True)

    # -- one step ------------------------------------------------------------------------------------------------

    def train_step(self, batches: list[Batch], factor: float) -> dict[str, float]:
        """Forward and backward of every micro-batch, then one optimiser step; returns what to log."""
        optim.set_lr(self.optimizers, factor)
        found = self._backward(batches)
        parameters = [p for p in self.trainable if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm or math.inf)
        logs = _read(batches, found, norm)
        for strategy in self.strategies:
            strategy.before_step(self.model, self.optimizers[0].param_groups[0]["lr"])
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.objective.after_step(self.plan.progress(self.step))
        self._update_average()
        return logs

    def _backward(self, batches: list[Batch]) -> list[dict[str, Tensor]]:
        scales = self._scales(batches)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        found = []
        for k, batch in enumerate(batches):
            machine.seed(step_seed(self.seed, self.step, rank * len(batches) + k), self.accelerator.device)
            self.objective.scale = scales[k]
            with self._sync(last=k == len(batches) - 1), self.accelerator.autocast():
                outputs = self.wrapped(_to(batch, self.accelerator.device))
                self.accelerator.backward(outputs["loss"] / len(batches))
            self.tokens += _size(batch) * world
            found.append({name: value.detach() for name, value in outputs.items() if value.ndim == 0})
        return found

    def _scales(self, batches: list[Batch]) -> list[dict[str, float]]:
        """Weight of each micro-batch's mean, so that the sum over all equals one mean over the whole batch."""
        counts = [self.objective.counts(b) for b in batches]
        keys = sorted(counts[0])
        local = torch.tensor([[c[key] for key in keys] for c in counts], dtype=torch.float64)
        total = local.sum(0)
        if self.accelerator.num_processes > 1 and keys:
            total = self.accelerator.reduce(total.to(self.accelerator.device).float(), "sum").double().cpu()
        parts = len(batches) * self.accelerator.num_processes
        scaled = local * parts / total.clamp(min=1e-9)
        if parts == 1:
            return [dict.fromkeys(keys, 1.0)]
        return [dict(zip(keys, row.tolist(), strict=True)) for row in scaled]

    def _sync(self, *, last: bool) -> Any:
        return self.accelerator.no_sync(self.wrapped) if not last else contextlib.nullcontext()

    def _update_average(self) -> None:
        if not self.ema:
            return
        decay = min(self.ema, (1 + self.step) / (10 + self.step))
        for name, parameter in self.objective.named_parameters():
            mean = self.average.setdefault(name, parameter.detach().clone())
            mean.lerp_(parameter.detach(), 1.0 - decay)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the module holds the averaged weights, if there are any."""
        if not self.average:
            yield
            return
        own = {n: p.detach().clone() for n, p in self.objective.named_parameters()}
        load_tensors(self.objective, self.average)
        try:
            yield
        finally:
            load_tensors(self.objective, own)

    # -- state ---------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """What a checkpoint holds."""
        tensors = {f"module.{n}": t for n, t in own_tensors(self.objective).items()}
        tensors |= {f"optim.{n}": t for n, t in optimizer_tensors(self.optimizers).items()}
        tensors |= {f"ema.{n}": t for n, t in self.average.items()}
        tensors |= {f"best.{n}": t for n, t in self.kept.items()}
        facts = {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.elapsed,
            "plan": vars(self.plan),
            "best": self.best,
            "best_score": None if math.isinf(self.best_score) else self.best_score,
            "stale": self.stale,
        }
        return State(tensors, facts)

    def restore(self, state: State) -> None:
        """Takes everything back from a checkpoint."""
        load_tensors(self.objective, state.take("module."))
        restore_optimizer(self.optimizers, state.take("optim."))
        device = self.accelerator.device
        self.average = {n: t.to(device) for n, t in state.take("ema.").items()}
        self.kept = state.take("best.")
        facts = state.facts
        self.step, self.tokens, self.seconds = facts["step"], facts["tokens"], facts["seconds"]
        self.plan = Plan(**facts["plan"])
        self.best, self.stale = facts["best"], facts["stale"]
        self.best_score = -math.inf if facts["best_score"] is None else facts["best_score"]

    def keep_if_best(self, metrics: dict[str, float], primary: str | None) -> None:
        """Remembers the weights with the best validation score; without a primary metric, the last ones count."""
        if primary is None:
            self.best = metrics
            return
        self.stale += 1
        if metrics[primary] > self.best_score:
            self.best_score, self.best, self.stale = metrics[primary], metrics, 0
            own = own_tensors(self.objective) | self.average
            self.kept = {n: t.detach().cpu().clone() for n, t in own.items()}


class NotFinite(Exception):
    """A loss or gradient that is NaN or infinite, with the batch that caused it."""

    def __init__(self, what: str, batch: Batch) -> None:
        super().__init__(what)
        self.batch = batch


def _read(batches: list[Batch], found: list[dict[str, Tensor]], norm: Tensor) -> dict[str, float]:
    """What to log; one transfer for all of it, as each would wait for the device.

    Raises:
        NotFinite: A loss or the norm is.
    """
    values = [v.to(norm.device, torch.float64) for v in (norm, *(v for outputs in found for v in outputs.values()))]
    length, *rest = torch.stack(values).tolist()
    numbers, logs = iter(rest), dict[str, float]()
    for batch, outputs in zip(batches, found, strict=True):
        row = {name: next(numbers) for name in outputs}
        if not math.isfinite(row["loss"]):
            raise NotFinite(f"the loss became {row['loss']}", batch)
        logs |= {name: logs.get(name, 0.0) + value / len(batches) for name, value in row.items()}
    if not math.isfinite(length):
        raise NotFinite(f"the gradient norm became {length}", {})
    return logs | {"grad_norm": length}


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, tied ones once."""
    return dict(module.named_parameters()) | dict(module.named_buffers())


def load_tensors(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copies values into the module's own tensors, in place."""
    own = own_tensors(module)
    with torch.no_grad():
        for name, value in tensors.items():
            own[name].copy_(value)


def _to(batch: Batch, device: torch.device) -> Batch:
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


def _size(batch: Batch) -> float:
    """What the modality counts: tokens, images, seconds of sound."""
    if "seconds" in batch:
        return float(batch["seconds"].sum())
    if "pixel_values" in batch:
        return len(batch["pixel_values"])
    return int(batch["input_ids"].numel()) if "input_ids" in batch else 0
