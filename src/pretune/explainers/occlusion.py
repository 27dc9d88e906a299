"""Occlusion: how far the target falls when a word is hidden behind the mask token (Zeiler & Fergus 2014)."""

from __future__ import annotations

__all__ = ["Occlusion"]

from typing import Any

import torch
from captum.attr import FeatureAblation
from torch import Tensor

from pretune.errors import ConfigError
from pretune.explainers.base import Explainer
from pretune.modalities.base import Batch
from pretune.perturbing import MAX_TOKENS, expanded, hidden_id, word_groups
from pretune.tasks.base import Task


class Occlusion(Explainer):
    """One pass a word: its score is the target of the record minus that without the word.

    Args:
        max_tokens: Most tokens in one pass of the model, which bounds memory.
    """

    def __init__(self, *, max_tokens: int = MAX_TOKENS) -> None:
        if max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, found {max_tokens}.")
        self.max_tokens = max_tokens

    def scores(self, task: Task, batch: Batch, *, of: Any = None) -> Tensor:
        """Signed effect of each token, shape (tokens,); the tokens of a word share its effect equally."""
        ids = batch["input_ids"].to(task.device)
        special = set(task.modality.hf.all_special_ids)  # type: ignore[attr-defined]
        words = word_groups(batch, special).to(task.device)
        if not bool((words >= 0).any()):
            return torch.zeros(len(words))
        hidden = torch.where(words < 0, ids, hidden_id(task))

        def forward(variants: Tensor) -> Tensor:
            return task.target(task(expanded(task, batch, variants))["logits"].float(), batch, of=of)

        with torch.no_grad():
            effects: Tensor = FeatureAblation(forward).attribute(
                ids,
                baselines=hidden,
                feature_mask=(words + 1)[None],
                perturbations_per_eval=max(1, self.max_tokens // ids.shape[1]),
            )[0]
        sizes = (words[:, None] == words[None, :]).sum(1)
        return torch.where(words < 0, 0.0, effects.float() / sizes)
