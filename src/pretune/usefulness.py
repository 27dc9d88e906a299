"""How much each block of a fine-tuned model matters: the score without it, and with the weights it started from.

Zhang et al. (2019), "Are All Layers Created Equal?": a block that can go back to its start, or to random weights,
without loss is one that training did not need.
"""

from __future__ import annotations

__all__ = ["Block", "Usefulness", "skipping", "usefulness"]

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from pretune import encoder
from pretune.errors import ModelError
from pretune.evaluation import predictions
from pretune.intervals import Interval
from pretune.modalities.base import Example
from pretune.resampling import Scored, scored
from pretune.tasks.base import Task
from pretune.weight_swap import Weights, holding


@dataclass(frozen=True)
class Block:
    """By how much the score falls; below 0 it rises.

    Attributes:
        layer: Which block.
        skipped: Without the block: its input is its output; None where the shapes differ (stages of convolutions).
        reset: With other weights in it, by what those are.
    """

    layer: str
    skipped: Interval | None
    reset: dict[str, Interval]


@dataclass(frozen=True)
class Usefulness:
    """The score of the whole model, and what each block adds to it."""

    metric: str
    score: float
    num_records: int
    blocks: list[Block]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def usefulness(
    task: Task,
    examples: Sequence[Example],
    labels: Sequence[Any],
    names: Sequence[str],
    others: Mapping[str, Weights],
    *,
    seed: int,
) -> Usefulness:
    """Scores the model with one block after the other skipped or reset; its weights come back bit for bit.

    Args:
        task: A fine-tuned task.
        examples: Held-out records.
        labels: Their raw labels.
        names: Of the blocks, from input to output.
        others: Weights that blocks are reset to.
        seed: Of the paired bootstrap.
    """
    whole = _scored(task, examples, labels, seed)
    prefix, blocks = encoder.blocks(task.model.base_model)

    def fall() -> Interval:
        return whole.less(_scored(task, examples, labels, seed))

    found = []
    for k, (name, block) in enumerate(zip(names, blocks, strict=True)):
        reset = {}
        for what, weights in others.items():
            own = {n: w for n, w in weights.items() if n.startswith(f"{prefix}.{k}.")}
            with holding(task.model, own):
                reset[what] = fall()
        try:
            with skipping(block):
                skipped = fall()
        except _OtherShape:
            skipped = None
        found.append(Block(name, skipped, reset))
    return Usefulness(task.primary, whole.value, len(labels), found)


def _scored(task: Task, examples: Sequence[Example], labels: Sequence[Any], seed: int) -> Scored:
    return scored(task, predictions(task, examples), labels, task.primary, seed=seed)


class _OtherShape(ModelError):
    """A block whose output has another shape than its input."""


@contextlib.contextmanager
def skipping(block: nn.Module) -> Iterator[None]:
    """Inside, a block gives its input as its output.

    Raises:
        ModelError: When the model runs, of a block that changes the shape of its input.
    """

    def pass_on(_: nn.Module, args: Any, options: Any, output: Any) -> Any:
        given: Tensor = args[0] if args else options["hidden_states"]
        made = output if isinstance(output, Tensor) else output[0]
        # a last block whose head reads the first token alone gives no others (`first_token`)
        given = given[:, : made.shape[1]] if made.shape[1:2] == (1,) else given
        if given.shape != made.shape:
            raise _OtherShape("This block cannot be skipped: it changes the shape of its input.")
        return given if isinstance(output, Tensor) else type(output)((given, *output[1:]))

    hook = block.register_forward_hook(pass_on, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
