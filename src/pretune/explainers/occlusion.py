"""Occlusion: how far the target falls when a word, a square of pixels or a sound is hidden (Zeiler & Fergus 2014)."""

from __future__ import annotations

__all__ = ["Occlusion"]

from typing import Any

import torch
from captum.attr import FeatureAblation
from captum.attr import Occlusion as SlidingOcclusion
from torch import Tensor

from pretune.errors import ConfigError
from pretune.explainers.base import Explainer
from pretune.modalities.base import Batch
from pretune.perturbing import MAX_TOKENS, expanded, grid_of, hidden_id, per_pass, variant_logits, word_groups
from pretune.sound_plane import plane_of
from pretune.tasks.base import Task


class Occlusion(Explainer):
    """One pass a word: its score is the target of the record minus that without the word (the mask in its place).

    Over pictures a square moves in steps of half its side; a pixel's score is the mean over the squares that held it.
    Of sound each cell of time and frequency is hidden, and its parts share its score.

    Args:
        window: Side of the square over pictures, in patches of the model.
        max_tokens: Most tokens (of pictures patches, of sound frames) in one pass of the model, which bounds memory.
    """

    def __init__(self, *, window: int = 2, max_tokens: int = MAX_TOKENS) -> None:
        if max_tokens < 1 or window < 1:
            raise ConfigError(f"window and max_tokens must be at least 1, found {window} and {max_tokens}.")
        self.window = window
        self.max_tokens = max_tokens

    def scores(self, task: Task, batch: Batch, *, of: Any = None) -> Tensor:
        """Signed effect: (tokens,), those of a word share it; of pixels (height, width); of sound (rows, 80)."""
        if task.modality.kind == "pixels":
            return self._of_pixels(task, batch, of)
        if task.modality.kind == "waveform":
            return self._of_sound(task, batch, of)
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
                perturbations_per_eval=per_pass(task, batch, self.max_tokens),
            )[0]
        sizes = (words[:, None] == words[None, :]).sum(1)
        return torch.where(words < 0, 0.0, effects.float() / sizes)

    def _of_pixels(self, task: Task, batch: Batch, of: Any) -> Tensor:
        pixels = batch["pixel_values"].to(task.device)
        channels, height, width = pixels.shape[1:]
        side = min(grid_of(task, batch)[2] * self.window, height, width)
        step = max(1, side // 2)

        def forward(variants: Tensor) -> Tensor:
            return task.target(task(expanded(task, batch, variants))["logits"].float(), batch, of=of)

        with torch.no_grad():
            effects: Tensor = SlidingOcclusion(forward).attribute(
                pixels,
                sliding_window_shapes=(channels, side, side),
                strides=(channels, step, step),
                baselines=0.0,  # the mean colour, after normalisation
                perturbations_per_eval=per_pass(task, batch, self.max_tokens),
            )[0, 0]
        return effects.float() / side**2

    def _of_sound(self, task: Task, batch: Batch, of: Any) -> Tensor:
        plane = plane_of(task, batch)
        cells = plane.cells

        def falls(chosen: Tensor) -> Tensor:
            variants = torch.cat((batch[task.modality.main_input].to(task.device), plane.without(chosen)))
            found = task.target(variant_logits(task, batch, variants, self.max_tokens), batch, of=of)
            return found[0] - found[1:]

        parts = torch.arange(plane.num_cells).split(per_pass(task, batch, self.max_tokens))
        effects = torch.cat([falls(part[:, None, None] == cells) for part in parts])
        sizes = torch.bincount(cells.flatten())
        return (effects / sizes.to(effects))[cells]
