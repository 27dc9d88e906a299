"""What a person sees while it trains, and Ctrl-C."""

from __future__ import annotations

__all__ = ["Console", "StopRequest", "hushed", "interruptible", "say", "show"]

import contextlib
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import FrameType, TracebackType
from typing import Any, Self

import rich.console
from accelerate import Accelerator
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pretune import machine
from pretune.loop import Loop
from pretune.objectives.base import Floor
from pretune.representation import collapsed

_out = rich.console.Console(stderr=True, highlight=False)


_hushes: list[None] = []


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Inside, nothing is said and bars leave no trace: for one of many trainings."""
    _hushes.append(None)
    try:
        yield
    finally:
        _hushes.pop()


def say(text: str) -> None:
    """One line for the person, on standard error, from the main process only."""
    if machine.is_main() and not _hushes:
        _out.print(text, markup=False, soft_wrap=True)


def show(table: rich.console.RenderableType) -> None:
    """A table for the person, as `say` does."""
    if machine.is_main() and not _hushes:
        _out.print(table)


@dataclass
class StopRequest:
    """Set by the first Ctrl-C; the second one ends the program at once."""

    requested: bool = False


@contextlib.contextmanager
def interruptible() -> Iterator[StopRequest]:
    """Turns SIGINT and SIGTERM into a request that the loop answers after its step."""
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if request.requested:
            raise KeyboardInterrupt
        request.requested = True

    try:
        earlier = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller keeps its own handling
        earlier = {}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class Console:
    """Progress of one fit: a bar on a terminal, plain lines elsewhere.

    Args:
        accelerator: Only its main process prints.
        floor: A reference value for the loss.
        counted: What the input is counted in.
    """

    def __init__(self, accelerator: Accelerator, floor: Floor | None, counted: str = "tokens") -> None:
        self.accelerator = accelerator
        self.floor = floor
        self.counted = counted
        columns = (
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("{task.fields[health]}"),
            TimeRemainingColumn(),
        )
        shown = accelerator.is_main_process and _out.is_terminal
        self.bar = Progress(*columns, console=_out, disable=not shown, transient=bool(_hushes))
        self.task = self.bar.add_task("", total=1, health="")
        self.smooth: dict[str, float] = {}
        self.rate = 0.0
        self.last: tuple[float, float] = (time.monotonic(), 0.0)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def note(self, text: str) -> None:
        """One line."""
        say(text)

    def start(self, loop: Loop, forecast: dict[str, float], steps_per_epoch: float, machine: str) -> None:
        """Says where it runs and what the budget will buy."""
        precision = {"no": "fp32"}.get(self.accelerator.mixed_precision, self.accelerator.mixed_precision)
        self.note(f"on {machine}; {precision}; {self.accelerator.num_processes} process(es)")
        self.last = (time.monotonic(), loop.tokens)
        if loop.step:
            self.note(f"resumed at step {loop.step} of {loop.plan.total_steps}")
            return
        epochs = loop.plan.total_steps / steps_per_epoch
        text = f"forecast: {loop.plan.total_steps} steps ({epochs:.2f} epochs)"
        if "seconds" in forecast:
            end = datetime.now() + timedelta(seconds=forecast["seconds"])
            text += f", {forecast['tokens']:.3g} {self.counted}, done at {end:%H:%M:%S}, {_peak_memory():.1f} GiB"
        self.note(text)

    def step(self, loop: Loop, logs: dict[str, float]) -> None:
        """Moves the bar."""
        loss = logs["loss"] if self.floor is None else self.floor.seen(logs)
        seen = {"grad_norm": logs["grad_norm"], "loss": loss}
        for key, value in seen.items():
            self.smooth[key] = 0.95 * self.smooth.get(key, value) + 0.05 * value
        now = time.monotonic()
        if now - self.last[0] > 1.0:
            self.rate = (loop.tokens - self.last[1]) / (now - self.last[0])
            self.last = (now, loop.tokens)
        self.bar.update(self.task, completed=loop.step, total=loop.plan.total_steps, health=self._health())

    def _health(self) -> str:
        floor = f" ({self.floor.what}: {self.floor.value:.2f})" if self.floor is not None else ""
        norm = self.smooth["grad_norm"]
        return f"loss {self.smooth['loss']:.3f}{floor}  |grad| {norm:.2f}  {self.rate:,.0f} {self.counted}/s"

    def validation(self, loop: Loop, metrics: dict[str, float]) -> None:
        """One line for each validation; the health verdicts where there are reference values or vectors."""
        shown = "  ".join(f"{k} {v:.4g}" for k, v in metrics.items())
        verdict = ""
        if self.floor is not None and "loss" in metrics:
            answer = "yes" if self.floor.seen(metrics) < self.floor.value else "not yet"
            verdict = f"  learning more than {self.floor.what} ({self.floor.value:.2f}): {answer}"
        if "effective_rank" in metrics:
            verdict += f"  collapsed: {'YES' if collapsed(metrics) else 'no'}"
        self.note(f"step {loop.step}/{loop.plan.total_steps} {loop.elapsed:.0f}s  held-out {shown}{verdict}")


def _peak_memory() -> float:
    """Peak resident memory of this process, GiB."""
    kib: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / (2**30 if sys.platform == "darwin" else 2**20)
