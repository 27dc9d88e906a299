"""The positional convolution of speech encoders, whose groups are too narrow for a CPU, as one product a group.

A convolution of many taps over few channels is computed for several frames at once: their windows overlap so much that
one matrix, the kernel shifted by a frame for each of them, has few zeros. The results are the same up to rounding.
"""

from __future__ import annotations

__all__ = ["hasten_positions"]

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_WIDE = 16
"""Channels of a group from which on oneDNN's own convolution is fast."""

_FRAMES = 8
"""Frames that are computed at once: more of them make better products, and more of these are with zeros."""


def hasten_positions(module: Any) -> bool:
    """Gives a module this way on a CPU, if it is a positional convolution of narrow groups; whether it is."""
    conv = getattr(module, "conv", None)
    if not isinstance(conv, nn.Conv1d) or conv.groups == 1 or conv.in_channels // conv.groups >= _WIDE:
        return False
    (width,) = conv.kernel_size
    plain = (conv.stride, conv.dilation, conv.padding) == ((1,), (1,), (width // 2,))
    normed = any(getattr(module, name, None) is not None for name in ("batch_norm", "layer_norm"))
    if not plain or normed or conv.in_channels != conv.out_channels or not hasattr(module, "padding"):
        return False
    module.forward = partial(_forward, module)
    return True


def _forward(module: Any, hidden_states: Tensor) -> Tensor:
    """Positions (batch, frames, channels) of states (batch, frames, channels)."""
    if hidden_states.device.type != "cpu" or torch.is_grad_enabled():
        return type(module).forward(module, hidden_states)
    conv, (batch, frames, _) = module.conv, hidden_states.shape
    (width,), groups = conv.kernel_size, conv.groups
    blocks, reach = -(-frames // _FRAMES), _FRAMES + width - 1
    before = conv.padding[0]
    padded = F.pad(hidden_states, (0, 0, before, (blocks - 1) * _FRAMES + reach - before - frames))
    by_group = padded.unflatten(2, (groups, -1)).permute(2, 0, 1, 3).flatten(2)  # (groups, batch, frames x channels)
    narrow = conv.in_channels // groups
    windows = by_group.unfold(2, reach * narrow, _FRAMES * narrow).flatten(1, 2)
    found = windows @ _shifted(conv.weight, groups).to(windows.dtype)
    placed = found.view(groups, batch, blocks * _FRAMES, narrow).permute(1, 2, 0, 3).flatten(2)[:, :frames]
    return module.activation(placed if conv.bias is None else placed + conv.bias)


def _shifted(kernel: Tensor, groups: int) -> Tensor:
    """Of a kernel (out, in, width), (groups, (frames + width - 1) x in, frames x out): what each frame reads."""
    taps = kernel.unflatten(0, (groups, -1)).permute(0, 3, 2, 1)  # (groups, width, in, out)
    width = taps.shape[1]
    found = taps.new_zeros(groups, _FRAMES + width - 1, taps.shape[2], _FRAMES, taps.shape[3])
    for frame in range(_FRAMES):
        found[:, frame : frame + width, :, frame] = taps
    return found.flatten(3).flatten(1, 2)
