"""Fine-tuned weights mixed with the pre-trained ones; validation data choose the share (WiSE-FT)."""

from __future__ import annotations

__all__ = ["SHARES", "Wise", "middle_of_best"]

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pretune.errors import ConfigError
from pretune.loop import load_tensors, own_tensors
from pretune.progress import say
from pretune.strategies.base import Strategy
from pretune.strategies.freeze import pretrained
from pretune.tuning import comparable

SHARES = tuple(k / 10 for k in range(11))
"""The shares of the fine-tuned weights that are tried."""


class Wise(Strategy):
    """After fine-tuning, sets every pre-trained weight to ``(1 - share) * w_pre + share * w_tuned``.

    Wortsman et al. 2022, "Robust fine-tuning of zero-shot models". What is new (the head) stays as it was fine-tuned.
    The share is swept from 0 to 1 in tenths on the validation data. Few records often cannot tell shares apart: then
    the middle one of the best is taken (of two, the one nearer to the pre-trained weights), since the outer ones lie
    where the score is about to drop. Joins others: `l2sp+wise`, `lora+wise` (updates are merged first).

    Args:
        share: Share of the fine-tuned weights, 0 to 1; None: swept on the validation data.
    """

    selects: ClassVar[bool] = True

    def __init__(self, *, share: float | None = None) -> None:
        if share is not None and not 0 <= share <= 1:
            raise ConfigError(f"share must be from 0 (pre-trained weights) to 1 (fine-tuned ones), found {share}.")
        self.share = share
        self._start: dict[str, Tensor] = {}

    @property
    def needs_validation(self) -> bool:
        """True unless the share is given."""
        return self.share is None

    def check(self, others: Sequence[Strategy], *, validation: bool) -> None:
        """Refuses what leaves nothing to mix.

        Raises:
            ConfigError: No validation data, an encoder that never moves, or updates that stay beside the weights.
        """
        if self.needs_validation and not validation:
            raise ConfigError(
                'Strategy "wise" chooses its share by validation data, and there is none; give --valid, a --valid_rate '
                "above 0, or --strategy.share."
            )
        for other in others:
            if other.frozen_throughout:
                raise ConfigError(
                    f'Strategy "wise" has no effect with "{other.name}", whose encoder stays as it was; leave one out.'
                )
            if not other.leaves_plain:
                raise ConfigError(
                    f'Strategy "wise" mixes weights, and "{other.name}" leaves its updates beside them; merge them '
                    "(--strategy.merge true)."
                )

    def setup(self, model: PreTrainedModel, new: Iterable[str]) -> PreTrainedModel:
        """Remembers the pre-trained weights, and the statistics of their normalisation layers."""
        loaded = pretrained(model, new, self.name)
        homes = {name.rpartition(".")[0] for name in loaded}
        statistics = {n for n, b in model.named_buffers() if n.rpartition(".")[0] in homes and b.is_floating_point()}
        own = own_tensors(model)
        self._start = {_merged(n): own[n].detach().clone() for n in loaded | statistics}
        return model

    def select(self, model: PreTrainedModel, score: Callable[[], float]) -> dict[str, Any]:
        """Mixes by `share`, or by the one of `SHARES` that validates best."""
        own = own_tensors(model)
        tuned = {n: own[n].detach().clone() for n in self._start}
        if self.share is not None:
            _mix(model, self._start, tuned, self.share)
            return {"share": self.share}
        scores: dict[float, float] = {}
        for share in SHARES:
            _mix(model, self._start, tuned, share)
            scores[share] = score()
        best = middle_of_best(scores)
        _mix(model, self._start, tuned, best)
        shown = "  ".join(f"{share:g}: {value:.4g}" for share, value in scores.items())
        say(f"wise: {best:g} of the fine-tuned weights; validation score by share  {shown}")
        return {"share": best, "scores": {f"{share:g}": value for share, value in scores.items()}}


def middle_of_best(scores: Mapping[float, float]) -> float:
    """The middle one of the shares with the highest score; of two, the lower."""
    found = {share: comparable(value) for share, value in scores.items()}
    best = sorted(share for share, value in found.items() if value == max(found.values()))
    return best[(len(best) - 1) // 2]


def _merged(name: str) -> str:
    """The name that a weight has once the low-rank updates beside it are merged."""
    return name.replace(".base_layer.", ".")


def _mix(model: nn.Module, start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> None:
    # lerp gives both ends bit for bit
    load_tensors(model, {n: torch.lerp(w.to(tuned[n].device), tuned[n], share) for n, w in start.items()})
