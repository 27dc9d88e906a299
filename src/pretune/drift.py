"""How far training moved the weights of each layer, relative to where they started."""

from __future__ import annotations

__all__ = ["Drift", "cosine", "drift", "layer_names"]

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from pretune import encoder
from pretune.weight_swap import Weights

_EMBEDDINGS, _AFTER = "embeddings", "after the blocks"


@dataclass(frozen=True)
class Drift:
    """Relative distances ``||w - w0|| / ||w0||``: 0 did not move, 1 moved as far as the start was long.

    Attributes:
        layers: Of all weights of a layer together; None where all started from 0.
        types: Of each sort of matrix, named by its place in a block, in each block.
        new: Parameters without a start to compare with (a pooler that the start lacked).
    """

    layers: dict[str, float | None]
    types: dict[str, dict[str, float | None]]
    new: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def layer_names(model: PreTrainedModel) -> list[str]:
    """``embeddings`` and every block, from input to output; convolutional encoders have stages."""
    return [_EMBEDDINGS, *(f"{_noun(model)} {k}" for k in range(1, encoder.num_layers(model) + 1))]


def drift(model: PreTrainedModel, start: Weights, now: Weights) -> Drift:
    """Compares two sets of weights of an encoder, layer by layer.

    Args:
        model: Says which parameters there are, and of which layer each is.
        start: Weights before training, by their names in the base model.
        now: Weights after it.
    """
    base: Any = model.base_model
    names = [*layer_names(model), _AFTER]
    layers: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    types: dict[str, dict[str, list[tuple[Tensor, Tensor]]]] = defaultdict(lambda: defaultdict(list))
    new = []
    for name, depth in encoder.depths(base).items():
        if name not in start or start[name].shape != now[name].shape:
            new.append(name)
            continue
        pair = (start[name], now[name])
        layers[names[depth]].append(pair)
        if 1 <= depth <= encoder.num_layers(base):
            types[_type(name, encoder.blocks(base)[0])][names[depth]].append(pair)
    return Drift(
        {n: _distance(layers[n]) for n in names if layers[n]},
        {t: {n: _distance(pairs) for n, pairs in rows.items()} for t, rows in types.items()},
        new,
    )


def _noun(model: PreTrainedModel) -> str:
    return "stage" if getattr(model.config, "hidden_sizes", None) else "block"


def _type(name: str, prefix: str) -> str:
    """``attention.self.query`` of ``encoder.layer.3.attention.self.query.weight``."""
    inside = name.removeprefix(f"{prefix}.").partition(".")[2]
    return re.sub(r"(^|\.)\d+(?=\.|$)", "", inside.rpartition(".")[0] or inside).strip(".")


def _distance(pairs: list[tuple[Tensor, Tensor]]) -> float | None:
    moved = sum(float((now.double() - start.double()).square().sum()) for start, now in pairs)
    length = sum(float(start.double().square().sum()) for start, _ in pairs)
    return math.sqrt(moved / length) if length else None if moved else 0.0


def cosine(start: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> float:
    """Cosine of the angle between the matrices of two sets of weights, taken as one vector."""
    both = [(start[n].double().flatten(), now[n].double().flatten()) for n in start if n in now and start[n].ndim > 1]
    dot = sum(float(a @ b) for a, b in both)
    return dot / math.sqrt(sum(float(a @ a) for a, _ in both) * sum(float(b @ b) for _, b in both) or 1.0)
