"""Integrated gradients over embeddings, pixels or sound (Sundararajan et al. 2017): signed, with a known sum."""

from __future__ import annotations

__all__ = ["IntegratedGradients"]

from typing import Any, Literal

import numpy as np
import torch
from captum.attr import IntegratedGradients as CaptumGradients
from captum.attr import LayerIntegratedGradients
from numpy.typing import NDArray
from torch import Tensor

from pretune.errors import ConfigError
from pretune.explainers.base import Explainer
from pretune.modalities.base import Batch
from pretune.perturbing import MAX_TOKENS, expanded, hidden_id, per_pass, word_groups
from pretune.sound_plane import plane_of
from pretune.tasks.base import Task

_NEAR = 0.0003


class IntegratedGradients(Explainer):
    """Gradients of the target, averaged on the straight way from a baseline without words or picture to the record.

    The baseline has the mask token in place of every word and keeps special tokens: the model saw masks in
    pre-training as "a word is here, which one is not known", whereas padding is never attended to; and
    special tokens are no evidence. That of a picture is the mean colour of the data everywhere. That of a spectrogram
    is its mean spectrum; that of a waveform is silence: gradients are those of the coefficients of its short-time
    Fourier transform, whose sum the waveform is, so that each has its share of the change in time and frequency.

    Args:
        n_steps: Points on the way (Gauss-Legendre), for sound twice as many; more make the sum exacter, see `delta`.
        baseline: Token that stands for no word: ``mask`` (``unk`` where a tokenizer has none) or ``pad``.
        max_tokens: Most tokens (of pictures patches, of sound frames) in one pass of the model, which bounds memory.
    """

    def __init__(
        self, *, n_steps: int = 32, baseline: Literal["mask", "pad"] = "mask", max_tokens: int = MAX_TOKENS
    ) -> None:
        if n_steps < 1 or max_tokens < 1:
            raise ConfigError(f"n_steps and max_tokens must be at least 1, found {n_steps} and {max_tokens}.")
        if baseline not in ("mask", "pad"):
            raise ConfigError(f'baseline is "mask" or "pad", found "{baseline}".')
        self.n_steps = n_steps
        self.baseline = baseline
        self.max_tokens = max_tokens
        self.delta: float | None = None
        """Of the latest record: sum of its scores minus target(record) - target(baseline)."""

    def scores(self, task: Task, batch: Batch, *, of: Any = None) -> Tensor:
        """Signed share in the target: (tokens,), special ones 0; of pixels (height, width); of sound (rows, 80)."""
        if task.modality.kind == "pixels":
            return self._of_pixels(task, batch, of)
        if task.modality.kind == "waveform":
            return self._of_sound(task, batch, of)
        ids = batch["input_ids"].to(task.device)
        special = set(task.modality.hf.all_special_ids)  # type: ignore[attr-defined]
        kept = word_groups(batch, special).to(task.device) < 0
        empty = torch.where(kept, ids, hidden_id(task, self.baseline))

        def forward(variants: Tensor) -> Tensor:
            inputs = expanded(task, batch, variants)
            return task.target(task(inputs)["logits"].float(), batch, of=of)

        method = LayerIntegratedGradients(forward, task.model.get_input_embeddings())
        found, delta = method.attribute(
            ids,
            baselines=empty,
            n_steps=self.n_steps,
            internal_batch_size=per_pass(task, batch, self.max_tokens),
            return_convergence_delta=True,
        )
        self.delta = float(delta.sum())
        scores: Tensor = found.detach().sum(-1)[0]
        return scores

    def _of_pixels(self, task: Task, batch: Batch, of: Any) -> Tensor:
        pixels = batch["pixel_values"].to(task.device)

        def forward(variants: Tensor) -> Tensor:
            return task.target(task(expanded(task, batch, variants))["logits"].float(), batch, of=of)

        found, delta = CaptumGradients(forward).attribute(
            pixels,
            baselines=torch.zeros_like(pixels),  # the mean colour, after normalisation
            n_steps=self.n_steps,
            internal_batch_size=per_pass(task, batch, self.max_tokens),
            return_convergence_delta=True,
        )
        self.delta = float(delta.sum())
        scores: Tensor = found.detach().sum(1)[0]
        return scores

    def _of_sound(self, task: Task, batch: Batch, of: Any) -> Tensor:
        plane = plane_of(task, batch)

        def target(values: Tensor) -> Tensor:
            inputs = expanded(task, batch, plane.sound(values))
            return task.target(task(inputs)["logits"].float(), batch, of=of)

        nodes, weights = (torch.from_numpy(a).float().to(task.device) for a in _dense_near_zero(2 * self.n_steps))
        size = per_pass(task, batch, self.max_tokens)
        mean = torch.zeros_like(plane.values)
        for at, weight in zip(nodes.split(size), weights.split(size), strict=True):
            points = (_as(at, mean) * plane.values).requires_grad_()
            (found,) = torch.autograd.grad(target(points).sum(), points)
            mean += (_as(weight, mean) * found).sum(0, keepdim=True)
        scores = plane.values * mean
        with torch.no_grad():
            gain = target(torch.cat((torch.zeros_like(mean), plane.values)))
        self.delta = float(scores.sum() - (gain[1] - gain[0]))
        return plane.placed(scores)


def _as(numbers: Tensor, like: Tensor) -> Tensor:
    return numbers.reshape(-1, *[1] * (like.ndim - 1))


def _dense_near_zero(steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places on the way, 0 to 1, and weights of the integral, both (steps,): Gauss-Legendre in asinh(place / 0.0003).

    Models of sound begin with a norm, to which a quiet sound is the same as a loud one: nearly all of the way from
    silence to the answer lies in its first hundredth, which even steps would miss.
    """
    x, w = np.polynomial.legendre.leggauss(steps)
    top = np.arcsinh(1 / _NEAR)
    at = (x + 1) / 2 * top
    return _NEAR * np.sinh(at), w / 2 * top * _NEAR * np.cosh(at)
