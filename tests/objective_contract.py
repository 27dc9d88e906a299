"""What contract tests of objectives of every kind do: steps on a batch, gradients of parts, a run that is stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pretune.checkpoint import RunDirectory
from pretune.loop import own_tensors
from pretune.objectives.base import Objective
from pretune.train import Interrupted, fit


def steps(objective: Objective, batch: Any, optimizer: torch.optim.Optimizer, number: int) -> Iterator[tuple[int, Any]]:
    """Steps on one batch, each with noise of its own: its number and logs, while its gradients are there."""
    for step in range(number):
        torch.manual_seed(step)
        logs = objective(batch)
        assert all(torch.isfinite(v).all() and v.dim() == 0 for v in logs.values()), logs
        assert not any(v.requires_grad for k, v in logs.items() if k != "loss")
        optimizer.zero_grad()
        logs["loss"].backward()
        yield step, logs
        optimizer.step()
        objective.after_step(step / number)


def whole_and_parts(objective: Objective, batch: Any, cut: int) -> tuple[Any, Any] | None:
    """Gradients of a batch, and those of its first `cut` and its other rows, scaled; None without `counts`."""
    total = objective.counts(batch)
    if not total:
        return None
    whole = _gradients(objective, [batch], [{}])
    parts = [{k: v[s] for k, v in batch.items()} for s in (slice(0, cut), slice(cut, None))]
    scales = [{k: n / total[k] for k, n in objective.counts(p).items()} for p in parts]
    return whole, _gradients(objective, parts, scales)


def _gradients(objective: Objective, batches: Sequence[Any], scales: Sequence[dict[str, float]]) -> dict[str, Any]:
    objective.zero_grad()
    for batch, scale in zip(batches, scales, strict=True):
        objective.scale = scale
        objective(batch)["loss"].backward()
    objective.scale = {}
    return {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}


def assert_a_stopped_run_ends_alike(
    make: Callable[[], Objective], corpus: Any, folder: Path, *, number: int, stop_at: int
) -> None:
    """Trains for `number` steps, at once and with a Ctrl-C after `stop_at`: both must end with the same bits."""
    whole = _fitted(make(), corpus, folder / "whole", number)
    with pytest.raises(Interrupted):
        _fitted(make(), corpus, folder / "cut", number, stop_at=stop_at)
    again = _fitted(make(), corpus, folder / "cut", number)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[n], again[n]) for n in whole)


def _fitted(objective: Any, corpus: Any, folder: Path, number: int, stop_at: int | None = None) -> dict[str, Any]:
    run = RunDirectory(folder)
    state = run.open({"verb": "test"})
    after_step, calls = objective.after_step, []

    def counted(progress: float) -> None:
        after_step(progress)
        calls.append(progress)
        if len(calls) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    objective.after_step = counted
    view = objective.examples(corpus, seed=0)
    fit(
        objective, view, run=run, state=state, budget=f"{number}steps", batch_size=6, lr=1e-3, seed=3, precision="fp32",
        lengths=objective.lengths(view),
    )  # fmt: skip
    return own_tensors(objective)
