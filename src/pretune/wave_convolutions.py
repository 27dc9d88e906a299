"""The convolutions that read a waveform, as matrix products without copies: the same results up to rounding.

Frames lie one after the other with their channels side by side, so that a kernel of two frames with stride 2 is one
matrix product over pairs of frames, and a third frame a second product that is added. All recordings of a batch form
one sequence; frames that would reach into the next recording are dropped at the end. The group norm of the first
convolution needs the mean and the variance of its output, which follow from those of the samples: it goes into the
weights, and nothing of that size is read twice.
"""

from __future__ import annotations

__all__ = ["hasten"]

from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import GELUActivation

from pretune.wave_positions import hasten_positions

_TILE = 128
"""Frames of the output that are worked on together where no gradients are wanted: what they need stays in the cache."""


def hasten(model: Any) -> Any:
    """Gives the convolutions of wav2vec 2.0, HuBERT and their like this way on a CPU; other models stay as they are."""
    found = [m for m in model.modules() if isinstance(getattr(m, "conv_layers", None), nn.ModuleList)]
    for extractor in (m for m in found if all(map(_known, m.conv_layers))):
        extractor.forward = partial(_forward, extractor)
        for layer in extractor.conv_layers:
            _in_place(layer, "activation")
        for module in model.modules():
            if hasten_positions(module):
                _in_place(module, "activation")
            _in_place(module, "intermediate_act_fn")
    return model


def _in_place(module: Any, name: str) -> None:
    if type(getattr(module, name, None)) is GELUActivation:
        getattr(module, name).__class__ = _Gelu


class _Gelu(GELUActivation):
    """In place where no gradients are wanted: nobody else reads the output of a linear layer that it is given."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if torch.is_grad_enabled() else torch.ops.aten.gelu_(input)


def _known(layer: Any) -> bool:
    conv, norm = getattr(layer, "conv", None), getattr(layer, "layer_norm", None)
    if not isinstance(conv, nn.Conv1d) or (conv.groups, *conv.padding, *conv.dilation) != (1, 0, 1):
        return False
    by_channel = isinstance(norm, nn.GroupNorm) and conv.in_channels == 1 and norm.num_groups == conv.out_channels
    return norm is None or isinstance(norm, nn.LayerNorm) or by_channel


def _forward(module: Any, input_values: Tensor) -> Tensor:
    """Frames (batch, channels, frames) of samples (batch, samples)."""
    if input_values.device.type != "cpu" or torch.compiler.is_compiling():
        return type(module).forward(module, input_values)
    layers = list(module.conv_layers)
    strides = [layer.conv.stride[0] for layer in layers]
    frames = input_values.shape[1]
    for layer, stride in zip(layers, strides, strict=True):
        frames = (frames - layer.conv.kernel_size[0]) // stride + 1
    pitch = -(-input_values.shape[1] // prod(strides))  # frames from one recording to the next
    first = _First(layers[0], input_values, pitch * prod(strides[1:]))
    if torch.is_grad_enabled():
        found = _rest(layers[1:], first.frames(), len(input_values) * pitch)
        return found.view(len(input_values), pitch, -1)[:, :frames].transpose(1, 2)
    return _in_tiles(layers, first, frames).transpose(1, 2)


class _First:
    """The first convolution, with its norm: weights of each recording and windows of its samples.

    Args:
        layer: With one input channel.
        waves: (batch, samples).
        pitch: Windows of each recording, at least those that there are.
    """

    def __init__(self, layer: Any, waves: Tensor, pitch: int) -> None:
        conv, self.layer = layer.conv, layer
        (kernel,), (stride,) = conv.kernel_size, conv.stride
        padded = F.pad(waves, (0, kernel + (pitch - 1) * stride - waves.shape[1]))
        self.windows = padded.unfold(1, kernel, stride)
        self.weight, self.bias = conv.weight[:, 0].T.expand(len(waves), -1, -1), conv.bias
        if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
            self._fold(layer.layer_norm, (waves.shape[1] - kernel) // stride + 1)
        elif self.bias is not None:
            self.bias = self.bias.expand(len(waves), 1, -1)

    def _fold(self, norm: nn.GroupNorm, number: int) -> None:
        with torch.autocast("cpu", enabled=False):
            windows = self.windows[:, :number].float()
            mean = windows.mean(1, keepdim=True)
            centred = windows - mean
            weight = self.weight.float()
            variance = (weight * (centred.mT @ centred / number @ weight)).sum(1, keepdim=True).clamp(min=0)
            scaled = weight * (norm.weight * (variance + norm.eps).rsqrt())
            unseen = 0.0 if self.bias is None else 0 * self.bias  # the norm takes it out; its gradient is 0, not None
            self.weight, self.bias = scaled, norm.bias - mean @ scaled + unseen

    def frames(self) -> Tensor:
        """Of all recordings, (batch x pitch, channels)."""
        found = self.windows @ self.weight if self.bias is None else torch.baddbmm(self.bias, self.windows, self.weight)
        return _finished(self.layer, found).flatten(0, 1)

    def part(self, row: int, start: int, end: int) -> Tensor:
        """Some frames of one recording, (end - start, channels)."""
        windows, weight = self.windows[row, start:end], self.weight[row]
        found = windows @ weight if self.bias is None else torch.addmm(self.bias[row], windows, weight)
        return _finished(self.layer, found)


def _in_tiles(layers: list[Any], first: _First, frames: int) -> Tensor:
    """Frames (batch, frames, channels) without gradients."""
    reach, jump = 1, 1
    for layer in layers[1:]:
        reach, jump = reach + (layer.conv.kernel_size[0] - 1) * jump, jump * layer.conv.stride[0]
    products = [_Product(layer.conv) for layer in layers[1:]]
    tiles = []
    for row in range(len(first.windows)):
        for start in range(0, frames, _TILE):
            end = min(frames, start + _TILE)
            found = first.part(row, start * jump, (end - 1) * jump + reach)
            for layer, product in zip(layers[1:], products, strict=True):
                found = _finished(layer, product(found))
            tiles.append(found)
    return torch.cat(tiles).view(len(first.windows), frames, -1)


def _rest(layers: list[Any], found: Tensor, number: int) -> Tensor:
    """What convolutions make of frames (frames, channels), with gradients; with zeros up to `number` frames."""
    for layer in layers:
        conv, weight = layer.conv, layer.conv.weight
        if torch.is_autocast_enabled("cpu"):
            found, weight = (t.to(torch.get_autocast_dtype("cpu")) for t in (found, weight))
        found = _finished(layer, _Convolution.apply(found, weight, conv.bias, conv.stride[0]))
    return F.pad(found, (0, 0, 0, number - len(found)))


def _finished(layer: Any, frames: Tensor) -> Tensor:
    """The norm over channels, where there is one, and the activation; in place where no gradients are wanted."""
    norm = getattr(layer, "layer_norm", None)
    if isinstance(norm, nn.LayerNorm):
        frames = norm(frames)
    return layer.activation(frames)


class _Product:
    """A convolution of frames (frames, in), one after the other; without gradients."""

    def __init__(self, conv: nn.Conv1d) -> None:
        self.width, self.stride, self.bias = conv.kernel_size[0], conv.stride[0], conv.bias
        self.weights = _matrices(conv.weight, self.stride)

    def __call__(self, frames: Tensor) -> Tensor:
        return _summed(_views(frames, self.width, self.stride), self.weights, self.bias)


def _summed(parts: list[Tensor], weights: list[Tensor], bias: Tensor | None) -> Tensor:
    """The products of views and matrices, one added to the other."""
    first = parts[0]
    found = first @ weights[0] if bias is None else torch.addmm(bias.to(first.dtype), first, weights[0])
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        found.addmm_(part.to(found.dtype), weight.to(found.dtype))
    return found


class _Convolution(torch.autograd.Function):
    """Frames (frames, in) and a kernel (out, in, width) to (frames, out), each step one matrix product."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, kernel: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        found = _summed(_views(frames, kernel.shape[2], stride), _matrices(kernel, stride), bias)
        ctx.save_for_backward(frames, kernel)
        ctx.stride, ctx.biased = stride, bias is not None
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        frames, kernel = ctx.saved_tensors
        width, stride = kernel.shape[2], ctx.stride
        to_frames = to_kernel = None
        if ctx.needs_input_grad[0]:
            to_frames = torch.zeros_like(frames)
            for part, weight in zip(_views(to_frames, width, stride), _matrices(kernel, stride), strict=True):
                part.addmm_(gradient, weight.T)
        if ctx.needs_input_grad[1]:
            taps = [part.T @ gradient for part in _views(frames, width, stride)]
            to_kernel = torch.cat(taps).view(width, kernel.shape[1], -1).permute(2, 1, 0)
        return to_frames, to_kernel, gradient.sum(0) if ctx.biased else None, None


def _views(frames: Tensor, width: int, stride: int) -> list[Tensor]:
    """Views of the frames, each (results, some frames x channels), that together hold the window of each result."""
    number = (len(frames) - width) // stride + 1
    whole = width // stride
    found = [frames[j * stride : (j + number) * stride].view(number, -1) for j in range(whole)]
    return found + [frames[k : k + (number - 1) * stride + 1 : stride] for k in range(whole * stride, width)]


def _matrices(kernel: Tensor, stride: int) -> list[Tensor]:
    """The kernel (out, in, width) in the parts of `_views`, each (some frames x in, out)."""
    taps, width = kernel.permute(2, 1, 0), kernel.shape[2]
    whole = width // stride
    found = [taps[j * stride : (j + 1) * stride].flatten(0, 1) for j in range(whole)]
    return found + [taps[k] for k in range(whole * stride, width)]
