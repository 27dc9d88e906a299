"""What every layer of an encoder makes of records: one vector a record, or one a word or residue."""

from __future__ import annotations

__all__ = ["Places", "layer_states", "places_of", "position_states"]

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune import encoder
from pretune.errors import ModelError
from pretune.evaluation import buckets, evaluating, to_device
from pretune.features import model_inputs
from pretune.modalities.base import Batch, Example, Modality
from pretune.sound_frames import frame_counts, inside

Places = Sequence[NDArray[np.int64]]
"""The words (residues) of each record whose states are wanted, sorted."""

_BATCH = 64


def places_of(examples: Sequence[Example], number: int, seed: int) -> Places:
    """About `number` words of tagged examples in all, drawn evenly over the records."""
    rng = np.random.default_rng(seed)
    each = max(1, number // max(1, len(examples)))
    sizes = [_read_words(e) for e in examples]
    return [np.sort(rng.permutation(words)[:each]) for words in sizes]


def _read_words(example: Example) -> NDArray[np.int64]:
    """The words of a tagged example that the model reads; one of no sub-word has no state."""
    found = {w for row in (example, *example.get("more", ())) for w in row["word_index"] if w >= 0}
    return np.array(sorted(found), dtype=np.int64)


def layer_states(
    model: PreTrainedModel,
    modality: Modality,
    collate: Callable[[Sequence[Example]], Batch],
    examples: Sequence[Example],
    places: Places | None = None,
) -> list[NDArray[np.float32]]:
    """States after the embeddings and after every block, in the order of the records.

    Without `places` one row a record: the mean over real tokens or frames, over patches without class token, or over
    the pixels of a feature map.

    Args:
        model: An encoder, bare or with a head.
        modality: Of the examples.
        collate: Examples to a batch; of tagged ones with ``word_index`` and ``row_of``.
        examples: Processed records.
        places: For tagged examples: the words whose states are wanted; rows are then words, record by record.

    Returns:
        Arrays of shape (rows, width), one a layer; the width may differ between layers.

    Raises:
        ModelError: The encoder has no blocks.
    """
    found: list[list[Any]] = [[None] * len(examples) for _ in range(encoder.num_layers(model) + 1)]
    with evaluating(model), torch.inference_mode():
        for chosen in buckets([modality.length(e) for e in examples], _BATCH):
            batch = to_device(collate([examples[i] for i in chosen]), model.device)
            wanted = None if places is None else [places[i] for i in chosen]
            for layer, rows in zip(found, _run(model, batch, wanted), strict=True):
                for i, row in zip(chosen, rows, strict=True):
                    layer[i] = row
    return [np.concatenate(layer) for layer in found]


def _run(model: PreTrainedModel, batch: Batch, places: Places | None) -> list[list[NDArray[np.float32]]]:
    """For each layer the rows of every record of a batch, each of shape (rows, width)."""
    caught: list[list[NDArray[np.float32]]] = []

    def keep(state: Tensor) -> None:
        if places is None:
            caught.append(list(_pooled(model, state, batch).float().cpu().numpy()[:, None]))
        else:
            caught.append(_at_places(state, batch, places))

    with _watching(model, keep):
        model(**model_inputs(model, batch))
    return caught


def position_states(model: PreTrainedModel, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """What enters the first block and leaves each, position by position, in one pass.

    Returns:
        For each layer the states (batch, positions, width) and which positions are of the record (batch, positions).

    Raises:
        ModelError: The encoder has no blocks.
    """
    caught: list[tuple[Tensor, Tensor]] = []

    def keep(state: Tensor) -> None:
        if state.ndim == 4:
            state = state.flatten(2).transpose(1, 2)
            caught.append((state, torch.ones(state.shape[:2], dtype=torch.bool, device=state.device)))
        else:
            caught.append((state, _real(model, state, batch)))

    with _watching(model, keep):
        model(**model_inputs(model, batch))
    return caught


@contextlib.contextmanager
def _watching(model: PreTrainedModel, keep: Callable[[Tensor], None]) -> Iterator[None]:
    """Gives `keep` what enters the first block and what leaves each, when the model runs."""
    blocks: list[nn.Module] = list(encoder.blocks(model)[1])
    if not blocks:
        raise ModelError(f"A {model.config.model_type} encoder has no list of blocks whose states could be looked at.")

    def enter(_: nn.Module, args: Any, options: Any) -> None:
        keep(args[0] if args else options["hidden_states"])

    def leave(_: nn.Module, __: Any, output: Any) -> None:
        keep(output if isinstance(output, Tensor) else output[0])

    hooks = [blocks[0].register_forward_pre_hook(enter, with_kwargs=True)]
    hooks += [block.register_forward_hook(leave) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _pooled(model: PreTrainedModel, state: Tensor, batch: Batch) -> Tensor:
    if state.ndim == 4:
        return state.mean((2, 3))
    real = _real(model, state, batch)[..., None].to(state.dtype)
    return (state * real).sum(1) / real.sum(1)


def _real(model: PreTrainedModel, state: Tensor, batch: Batch) -> Tensor:
    """Which positions stand for a part of the record, shape (batch, positions)."""
    positions = state.shape[1]
    if "input_features" in batch or "num_samples" in batch:
        return inside(frame_counts(model, batch), positions)
    if "pixel_values" in batch:
        start = max(0, positions - _num_patches(model, batch["pixel_values"]))
        return (torch.arange(positions, device=state.device) >= start).expand(len(state), -1)
    return batch["attention_mask"].bool()


def _num_patches(model: PreTrainedModel, pixels: Tensor) -> int:
    side = getattr(model.config, "patch_size", 1)
    return (pixels.shape[-2] // side) * (pixels.shape[-1] // side)


def _at_places(state: Tensor, batch: Batch, places: Places) -> list[NDArray[np.float32]]:
    """The state of the first sub-word of each wanted word."""
    index, row_of = batch["word_index"].cpu().numpy(), batch["row_of"].cpu().numpy()
    at = {(int(row_of[r]), int(index[r, c])): (r, c) for r, c in zip(*np.nonzero(index >= 0), strict=True)}
    spots = [[at[i, int(w)] for w in words] for i, words in enumerate(places)]
    flat = np.array([spot for record in spots for spot in record], dtype=np.int64).reshape(-1, 2)
    rows = state[torch.from_numpy(flat[:, 0]), torch.from_numpy(flat[:, 1])].float().cpu().numpy()
    return np.split(rows, np.cumsum([len(record) for record in spots])[:-1])
