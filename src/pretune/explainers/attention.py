"""Attention rollout (Abnar & Zuidema 2020): where information flowed from; unsigned, often unfaithful."""

from __future__ import annotations

__all__ = ["Attention"]

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pretune import mel
from pretune.errors import ConfigError, ModelError
from pretune.explainers.base import Explainer
from pretune.features import model_inputs
from pretune.modalities.base import Batch
from pretune.perturbing import expanded, grid_of
from pretune.sound_plane import plane_of
from pretune.tasks.base import Task


class Attention(Explainer):
    """Product over layers of the mean attention of all heads, mixed with the residual connection.

    Args:
        residual_rate: Weight of the identity (the residual connection) in each layer; 0.5 in the paper.
    """

    def __init__(self, *, residual_rate: float = 0.5) -> None:
        if not 0 <= residual_rate < 1:
            raise ConfigError(f"residual_rate must be at least 0 and below 1, found {residual_rate}.")
        self.residual_rate = residual_rate

    def scores(self, task: Task, batch: Batch, *, of: Any = None) -> Tensor:
        """Share in what the target is read from, at least 0: (tokens,), (height, width) of pixels, (rows, 80) of sound.

        Shares of tokens and sound sum to 1; of pixels to what the patches have of it. Those of sound are of frames, the
        same for all frequencies, and do not follow what convolutions carry from frame to frame.
        """
        flow = self._rollout(task, batch, of)
        if task.modality.kind == "waveform":
            return _on_sound(task, batch, flow)
        return flow if task.modality.kind == "tokens" else _on_pixels(task, batch, flow)

    def _rollout(self, task: Task, batch: Batch, of: Any) -> Tensor:
        model = task.model
        if not _gives_attention(model):
            raise ModelError(f"{type(model).__name__} gives no attention weights; use another explainer.")
        inputs = model_inputs(model, expanded(task, batch, batch[task.modality.main_input].to(task.device)))
        with torch.no_grad(), _eager(model):
            output = model(**inputs, output_attentions=True)
        if not getattr(output, "attentions", None):
            raise ModelError(f"A {model.config.model_type} model gives no attention weights; use another explainer.")
        flow = torch.eye(output.attentions[0].shape[-1], device=task.device)
        for layer in output.attentions:
            mixed = (1 - self.residual_rate) * layer[0].float().mean(0) + self.residual_rate * torch.eye(
                len(flow), device=flow.device
            )
            flow = mixed / mixed.sum(-1, keepdim=True) @ flow
        return self._read_from(task, batch, output.logits.float(), len(flow), of) @ flow

    @staticmethod
    def _read_from(task: Task, batch: Batch, logits: Tensor, num_tokens: int, of: Any) -> Tensor:
        """Weight of each output position in the target, shape (tokens,), sum 1."""
        if logits.ndim == 3:  # a token classifier: where the target's gradient is
            leaf = logits.detach().requires_grad_()
            task.target(leaf, batch, of=of).sum().backward()
            assert leaf.grad is not None
            share = leaf.grad[0].abs().sum(-1)
            return share / share.sum()
        pooling = (
            "mean" if task.modality.kind == "waveform" else getattr(task.model.config, "classifier_pooling", "cls")
        )
        if pooling == "mean":
            return torch.full((num_tokens,), 1 / num_tokens, device=logits.device)
        return torch.eye(num_tokens, device=logits.device)[0]


def _on_pixels(task: Task, batch: Batch, flow: Tensor) -> Tensor:
    """Shares of patch tokens, which follow those of no place ([CLS], registers), spread over their pixels."""
    rows, columns, side = grid_of(task, batch)
    height, width = batch["pixel_values"].shape[-2:]
    if len(flow) < rows * columns:
        raise ModelError(f"A {task.model.config.model_type} model has no token for each patch; use another explainer.")
    grid = flow[len(flow) - rows * columns :].reshape(rows, columns) / side**2
    return grid.repeat_interleave(side, 0).repeat_interleave(side, 1)[:height, :width]


def _on_sound(task: Task, batch: Batch, flow: Tensor) -> Tensor:
    """Shares of frames, spread over the rows nearest to each and over all mel bins."""
    plane = plane_of(task, batch)
    centres = (torch.arange(plane.rows, device=flow.device) + 0.5) / plane.rows
    frame = (centres * len(flow)).long()
    sizes = torch.bincount(frame, minlength=len(flow)).clamp(min=1)
    return (flow / sizes)[frame][:, None].expand(-1, mel.BINS) / mel.BINS


@contextlib.contextmanager
def _eager(model: PreTrainedModel) -> Iterator[None]:
    """Plain attention inside: fused kernels do not give their weights."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _gives_attention(model: Any) -> bool:
    parameters = inspect.signature(type(model).forward).parameters
    return "output_attentions" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
