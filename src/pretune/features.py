"""Outputs of a frozen encoder, computed once and replayed into the rest of the model.

What holds: for the same padded batch, logits are bit-equal to those of the whole model. In another batch
composition they agree as closely as the encoder itself does with another composition (matrix products round
differently, about 1e-6 in fp32). The frozen part runs without dropout, as the strategy ``freeze`` also
keeps it when nothing is cached.
"""

from __future__ import annotations

__all__ = ["FrozenFeatures", "cached", "can_replay", "logits", "model_inputs", "stack"]

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pretune import encoder, heads
from pretune.errors import ConfigError, ModelError
from pretune.feature_store import Slot, Store
from pretune.first_token import first_token_only
from pretune.modalities.base import Batch, Example
from pretune.sound_frames import frame_counts
from pretune.strategies.base import Strategy
from pretune.strategies.freeze import Freeze
from pretune.tasks.base import Task

MEMORY_LIMIT = 2**30
"""Bytes above which features go to a memory-mapped file, if there is a folder for it."""

_PREFIX = "features."
_BLOCK = "block_"
_HIDDEN, _POOLED = "last_hidden_state", "pooler_output"
_STATE = "hidden_state_"


class FrozenFeatures(Sequence[Example]):
    """Examples that carry what their frozen encoder gave; they replace the plain examples in `fit`.

    Each item is the example with ``features`` added (one mapping of arrays a row of the batch that
    `Task.collate` makes of it); a task's `collate` stacks them with `stack`, and its `forward` calls
    `logits`.

    Of the whole encoder's output only the positions are kept that the head provably uses: outputs are
    poisoned with NaN, all or all but position 0, and what leaves the logits bit-equal is not stored.

    Args:
        task: Set up, with the encoder frozen by a strategy.
        examples: Labelled examples.
        batch_size: Examples in one run of the encoder.
        folder: Where a memory-mapped file may be written; it is removed by `close`.
        layers: Number of lowest blocks that are frozen; None: the whole encoder.

    Raises:
        ConfigError: A parameter of the part to cache is trainable.
        ModelError: An architecture whose intermediate states cannot be replayed.
    """

    def __init__(
        self,
        task: Task,
        examples: Sequence[Example],
        *,
        batch_size: int = 64,
        folder: Path | None = None,
        layers: int | None = None,
    ) -> None:
        _check_frozen(task.model, layers)
        self._examples = examples
        self._layers = layers
        self._positions: dict[str, str] = {}
        self._rows: list[list[dict[str, Slot]]] = [[] for _ in examples]
        self._stores: dict[str, Store] = {}
        training = task.model.training
        task.model.eval()
        try:
            self._fill(task, batch_size, folder)
        finally:
            task.model.train(training)

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        rows = [{k: self._stores[k].read(slot) for k, slot in row.items()} for row in self._rows[index]]
        return self._examples[index] | {"features": rows}

    @property
    def num_bytes(self) -> int:
        """Size of what is stored."""
        return sum(store.num_bytes for store in self._stores.values())

    def close(self) -> None:
        """Removes the memory-mapped files."""
        for store in self._stores.values():
            store.close()

    @torch.inference_mode()
    def _fill(self, task: Task, batch_size: int, folder: Path | None) -> None:
        order = sorted(range(len(self._examples)), key=lambda i: -task.modality.length(self._examples[i]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = _on(task.collate([self._examples[i] for i in chosen]), task.device)
            with first_token_only():  # as in `logits`, so that replayed logits are bit-equal
                outputs = self._run(task.model, batch)
            lengths = _lengths(task.model, batch, len(next(iter(outputs.values()))))
            row_of = batch.get("row_of", torch.arange(len(lengths))).tolist()
            rows = {key: value.float().cpu().numpy() for key, value in outputs.items()}
            if not self._stores:
                self._open(rows, len(chosen), folder)
            for r, position in enumerate(row_of):
                self._rows[chosen[position]].append(
                    {k: self._stores[k].add(_cut(v[r], lengths[r])) for k, v in rows.items()}
                )
        for store in self._stores.values():
            store.finish()

    def _run(self, model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
        if self._layers is not None:
            return _block_outputs(model, batch, self._layers)
        outputs = _encoder_outputs(model, batch)
        if not self._positions:
            self._positions = _used_positions(model, batch, outputs)
        keep = {k: v for k, v in outputs.items() if self._positions[k] != "none"}
        return {k: v[:, 0] if self._positions[k] == "first" else v for k, v in keep.items()}

    def _open(self, rows: Mapping[str, NDArray[np.float32]], num_examples: int, folder: Path | None) -> None:
        # the first batch holds the longest examples, so this estimate is an upper bound
        estimate = sum(v.nbytes for v in rows.values()) / num_examples * len(self._examples)
        spill = folder is not None and estimate > MEMORY_LIMIT
        paths = {k: folder / f"features-{k}.bin" if spill and folder else None for k in rows}
        self._stores = {k: Store(path) for k, path in paths.items()}


def can_replay(task: Task) -> bool:
    """Whether what a frozen encoder says of a record can be stored and given to the head again and again."""
    return task.replayable and task.modality.replayable


@contextlib.contextmanager
def cached(
    task: Task, strategies: Sequence[Strategy], *groups: Sequence[Example]
) -> Iterator[tuple[Sequence[Example], ...]]:
    """Groups of examples, with the outputs of what a strategy keeps frozen throughout; removed at the end.

    Args:
        task: After `setup` of all strategies.
        strategies: What says whether, and how much, is frozen.
        groups: Training examples, validation examples ...; given back as they are where they carry features already.
    """
    whole = any(s.frozen_throughout for s in strategies)
    layers = max((s.layers or 0 for s in strategies if isinstance(s, Freeze)), default=0)
    if "features" in groups[0][0] or not can_replay(task) or (not whole and not layers):
        yield groups
        return
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="pretune-features-"))
        stores = [
            FrozenFeatures(task, g, folder=Path(mkdtemp(dir=folder)), layers=None if whole else layers) for g in groups
        ]
        for store in stores:
            stack.callback(store.close)
        yield tuple(stores)


def stack(examples: Sequence[Example], batch: Batch) -> Batch:
    """The ``features`` of examples as batch entries, padded like the batch; empty when there are none."""
    if "features" not in examples[0]:
        return {}
    rows = [row for example in examples for row in example["features"]]
    return {f"{_PREFIX}{key}": _padded([row[key] for row in rows], batch) for key in rows[0]}


def logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Logits of a batch; from its stored features, when it has them, and otherwise from the whole model."""
    stored = {k.removeprefix(_PREFIX): v for k, v in batch.items() if k.startswith(_PREFIX)}
    inputs = model_inputs(model, batch)
    if not stored:
        with first_token_only():
            return model(**inputs).logits
    if next(iter(stored)).startswith(_BLOCK):
        states = {int(key.removeprefix(_BLOCK)): value for key, value in stored.items()}
        with _from_blocks(model, states), first_token_only():
            return model(**inputs).logits
    with heads.replayed(model, _replay(model, stored)):
        return model(**inputs).logits


def model_inputs(model: PreTrainedModel, batch: Batch) -> Batch:
    """The entries of a batch that the model takes, without labels: tasks compute their own loss."""
    known = _arguments(type(model).forward)
    return {k: v for k, v in batch.items() if k in known}


@functools.cache
def _arguments(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters) - {"self", "labels"}


# -- the whole encoder ---------------------------------------------------------------------------------------


def _encoder_outputs(model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
    """What the base model gives its head, without what a trainable pooler must compute again."""
    caught: dict[str, Any] = {}
    hook = model.base_model.register_forward_hook(lambda _, __, out: caught.update(out))
    try:
        model(**model_inputs(model, batch))
    finally:
        hook.remove()
    if _HIDDEN not in caught:
        raise ModelError(f"A {model.config.model_type} encoder gives no {_HIDDEN}; its outputs cannot be cached.")
    pooled = _POOLED in caught and not _trains(getattr(model.base_model, "pooler", None))
    states = {f"{_STATE}{k}": state for k, state in enumerate(caught.get("hidden_states") or ())}
    return {k: caught[k] for k in ([_HIDDEN, _POOLED] if pooled else [_HIDDEN])} | states


def _replay(model: PreTrainedModel, stored: Mapping[str, Tensor]) -> BaseModelOutputWithPooling:
    pooled = stored.get(_POOLED)
    hidden = stored.get(_HIDDEN)
    states = {int(k.removeprefix(_STATE)): v for k, v in stored.items() if k.startswith(_STATE)}
    if hidden is None:  # the head takes the pooled output, or states of several blocks, alone
        first = next(iter(stored.values()))
        hidden = first.new_zeros(len(first), 1, 1)
    hidden = hidden.unsqueeze(1) if hidden.ndim == 2 else hidden
    pooler = getattr(model.base_model, "pooler", None)
    if pooled is None and pooler is not None:
        pooled = pooler(hidden)
    found = BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=pooled)
    if states:
        number = _num_states(model)
        found.hidden_states = tuple(states.get(k, hidden.new_zeros(len(hidden))) for k in range(number))
    return found


def _num_states(model: PreTrainedModel) -> int:
    """Hidden states that transformers gives: of the embeddings and of every block."""
    return encoder.num_layers(model) + 1


def _used_positions(model: PreTrainedModel, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, str]:
    """``none``, ``first`` or ``all``: what the head needs of each output, proved by poisoning the rest."""
    truth = _head(model, batch, outputs)
    found: dict[str, str] = {}
    for key, value in outputs.items():
        poisons = {"none": torch.full_like(value, torch.nan), "first": value.clone()}
        poisons["first"][:, 1:] = torch.nan
        trials = [n for n in poisons if n == "none" or (key == _HIDDEN and value.ndim == 3)]
        equal = (n for n in trials if torch.equal(_head(model, batch, {**outputs, key: poisons[n]}), truth))
        found[key] = next(equal, "all")
    return found


def _head(model: PreTrainedModel, batch: Batch, outputs: Mapping[str, Tensor]) -> Tensor:
    with heads.replayed(model, _replay(model, outputs)):
        return model(**model_inputs(model, batch)).logits


# -- the lowest blocks ---------------------------------------------------------------------------------------


class _Reached(Exception):
    """The highest block that is needed has run."""


def _block_outputs(model: PreTrainedModel, batch: Batch, num_blocks: int) -> dict[str, Tensor]:
    """Hidden states after block `num_blocks`, and after each one below it where the head takes states of several."""
    blocks = list(encoder.blocks(model)[1])[:num_blocks]
    caught: list[Any] = []
    several: list[bool] = []

    def catch(module: nn.Module, _: Any, output: Any) -> None:
        caught.append(output)
        if module is blocks[-1]:
            raise _Reached

    def ask(_: nn.Module, __: Any, options: Mapping[str, Any]) -> None:
        several.append(bool(options.get("output_hidden_states")))

    hooks = [block.register_forward_hook(catch) for block in blocks]
    hooks.append(model.base_model.register_forward_pre_hook(ask, with_kwargs=True))
    try:
        with contextlib.suppress(_Reached):
            model(**model_inputs(model, batch))
    finally:
        for hook in hooks:
            hook.remove()
    if len(caught) != num_blocks or not all(isinstance(state, Tensor) for state in caught):
        raise ModelError(
            f"The blocks of a {model.config.model_type} encoder do not give one tensor; "
            "its lowest layers can be frozen, but not cached."
        )
    return {f"{_BLOCK}{k}": caught[k - 1] for k in range(1 if any(several) else num_blocks, num_blocks + 1)}


@contextlib.contextmanager
def _from_blocks(model: PreTrainedModel, hidden: Mapping[int, Tensor]) -> Iterator[None]:
    """Inside, each block that `hidden` has (counted from 1) gives that, and others below the last do nothing."""
    blocks = list(encoder.blocks(model)[1])[: max(hidden)]

    def give(state: Tensor) -> Callable[..., Tensor]:
        return lambda *_, **__: state

    with _swapped({b: give(hidden[k]) if k in hidden else _first_argument for k, b in enumerate(blocks, 1)}):
        yield


@contextlib.contextmanager
def _swapped(forwards: Mapping[Any, Any]) -> Iterator[None]:
    before = {module: vars(module).get("forward") for module in forwards}
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                del module.forward
            else:
                module.forward = forward


def _first_argument(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden


# -- checks and storage --------------------------------------------------------------------------------------


def _trains(module: Any) -> bool:
    return module is not None and any(p.requires_grad for p in module.parameters())


def _check_frozen(model: PreTrainedModel, layers: int | None) -> None:
    base = model.base_model
    if layers is None:
        pooler = getattr(base, "pooler", None)
        own = {id(p) for p in pooler.parameters()} if pooler is not None else set()
        moving = [n for n, p in base.named_parameters() if p.requires_grad and id(p) not in own]
    else:
        if not 1 <= layers <= encoder.num_layers(model):
            raise ConfigError(f"layers must be 1 to {encoder.num_layers(model)} to be cached, found {layers}.")
        table = encoder.depths(model)
        moving = [n for n, p in model.named_parameters() if p.requires_grad and table[n] <= layers]
    if moving:
        raise ConfigError(f"Only a frozen encoder can be cached, and {len(moving)} tensors move (first: {moving[0]}).")


def _on(batch: Batch, device: torch.device) -> Batch:
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}


def _lengths(model: PreTrainedModel, batch: Batch, num_rows: int) -> list[int | None]:
    """How many of the encoder's states are real in each row of a batch; None where all are."""
    if "attention_mask" not in batch:
        return [None] * num_rows
    mask = batch["attention_mask"]
    lengths = mask.sum(1)
    if not torch.equal(mask.bool(), torch.arange(mask.shape[1], device=mask.device) < lengths[:, None]):
        raise ModelError("Features can be cached for right-padded batches only; set the tokenizer's padding_side.")
    return (frame_counts(model, batch) if "num_samples" in batch else lengths).tolist()


def _cut(row: NDArray[np.float32], length: int | None) -> NDArray[np.float32]:
    return row[:length] if row.ndim == 2 and length is not None else row


def _padded(rows: Sequence[NDArray[np.float32]], batch: Batch) -> Tensor:
    if rows[0].ndim != 2 or "attention_mask" not in batch:
        return torch.from_numpy(np.stack(rows))
    # the convolutions that read waveforms make as many frames as the longest row has
    width = max(map(len, rows)) if "input_values" in batch else batch["attention_mask"].shape[1]
    out = np.zeros((len(rows), width, rows[0].shape[1]), dtype=np.float32)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(out)
