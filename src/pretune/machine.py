"""What this machine can do well: number formats, memory, threads."""

from __future__ import annotations

__all__ = [
    "agreed",
    "describe",
    "device",
    "fast_attention",
    "fast_bf16",
    "fast_convolutions",
    "fast_model",
    "is_main",
    "keep_freed_memory",
    "leave",
    "main_first",
    "precision_for",
    "repeatable",
    "seed",
]

import contextlib
import ctypes
import os
import platform
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import nn

from pretune.errors import ConfigError

Value = TypeVar("Value")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def seed(value: int, device: torch.device) -> None:
    """Seeds what draws on a device; of a CPU one generator, since to ask all kinds of devices takes 0.1 ms or more."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(value)
    else:
        torch.manual_seed(value)


@cache
def keep_freed_memory() -> bool:
    """Tells glibc to keep freed blocks instead of returning them to the kernel; returns whether it did.

    A training step on the CPU allocates the same large tensors again and again; with glibc's defaults each one is a
    fresh mapping whose pages must be zeroed. Measured here: up to 1.7 times the tokens a second.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
    except (OSError, AttributeError):
        return False


def is_main() -> bool:
    """Whether this is the process that writes files and speaks: the only one, or the first of `torchrun`'s."""
    return os.environ.get("RANK", "0") == "0"


def agreed(value: Value) -> Value:
    """The main process's value, in all processes: what depends on time must not differ between them."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return value
    return cast(Value, broadcast_object_list([value])[0])


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """The main process goes through the block before the others, which find there what it wrote."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    with PartialState(cpu=not torch.accelerator.is_available()).main_process_first():
        yield


def leave() -> None:
    """Ends the talk between processes: threads of it that still run when Python ends abort the process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is done in hardware, and faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _bf16_pays()


@cache
def _bf16_pays() -> bool:
    """Whether a CPU multiplies matrices faster in bfloat16.

    Having the instructions is not enough: an Intel Xeon with `avx512_bf16` but without AMX took twice as long as in
    float32, an AMD EPYC with them half as long. Times are the least of several, taken in turns.
    """
    capabilities = torch.cpu.get_capabilities()
    if not any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16")):
        return False
    pairs = [(torch.ones(512, 512, dtype=kind),) * 2 for kind in (torch.float32, torch.bfloat16)]
    plain, rounded = (min(times) for times in zip(*([_seconds(*p) for p in pairs] for _ in range(9)), strict=True))
    return rounded < 0.9 * plain


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    began = time.perf_counter()
    torch.nn.functional.linear(left, right)
    return time.perf_counter() - began


def precision_for(device: torch.device, wanted: str | None) -> str:
    """``bf16`` or ``fp32``: what was asked for, else bf16 where the hardware is faster in it.

    Raises:
        ConfigError: An unknown precision.
    """
    if wanted not in (None, "bf16", "fp32"):
        raise ConfigError(f'precision is "bf16" or "fp32"; found "{wanted}".')
    return wanted or ("bf16" if fast_bf16(device) else "fp32")


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Inside, convolutions on a GPU add in one order: a resumed run ends with the same bits."""
    flags = torch.backends.cudnn
    before = flags.deterministic
    flags.deterministic = True
    try:
        yield
    finally:
        flags.deterministic = before


def device() -> torch.device:
    """Where models run: the GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_model(model: Any) -> None:
    """Lets a model that is whole compute as fast as it can here: `fast_attention` and `fast_convolutions`."""
    fast_attention(model)
    fast_convolutions(model)


def fast_attention(model: Any) -> None:
    """Switches a model to transformers' faster attention: plain matrix products on a CPU, fused kernels elsewhere.

    Networks without attention (ResNet, ConvNeXt) know no fused kernels and stay as they are.
    """
    if device().type == "cpu":
        model.set_attn_implementation("eager")
    elif model._supports_sdpa:
        model.set_attn_implementation("sdpa")


def fast_convolutions(module: nn.Module) -> None:
    """Lays the weights of dense 2-d convolutions out with channels last, which is faster on a CPU; values stay.

    Convolutions whose windows do not overlap (patches, ConvNeXt's stages) or that are one channel deep gain nothing.
    """
    if device().type == "cpu":
        for part in module.modules():
            if isinstance(part, nn.Conv2d) and part.groups == 1 and max(part.kernel_size) > max(part.stride):
                part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)


def describe(device: torch.device) -> str:
    """One phrase for logs and reports."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads of {os.cpu_count()} {platform.machine()} cores"
