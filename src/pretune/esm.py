"""ESM's blocks with GELU in one operation: the same results up to rounding.

transformers writes it in five (and eight more in the backward pass), which took about a fifth of a training step.
"""

from __future__ import annotations

__all__ = ["hasten"]

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers.models.esm.modeling_esm import EsmIntermediate


class _Intermediate(EsmIntermediate):
    def forward(self, hidden_states: Tensor) -> Tensor:
        return F.gelu(self.dense(hidden_states))


def hasten(model: Any) -> Any:
    """Gives ESM's blocks the forward of this module; any other model is left as it is."""
    for module in model.modules():
        if type(module) is EsmIntermediate:
            module.__class__ = _Intermediate
    return model
