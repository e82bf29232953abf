"""In which precision a network is computed: bfloat16 where this machine gains by it, which is measured."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Precision = Literal["float32", "bfloat16"]

_WIDTH, _SIDE = 64, 128  # channels and px of the convolution that is timed: the network's middle


@cache
def fastest(device: torch.device) -> Precision:
    """Measure which precision a device convolves faster in; a few hundredths of a second, once for each process.

    Convolutions in bfloat16 sum in float32. A processor without instructions for it emulates them, slowly.
    """
    least_gain = 1.3  # what bfloat16 must gain: clear of the noise of timing, so that the result is the same each time
    try:
        gain = _seconds(device, torch.float32) / _seconds(device, torch.bfloat16)
    except RuntimeError:  # the device has no bfloat16
        return "float32"
    return "bfloat16" if gain > least_gain else "float32"


def channels_last(module: nn.Module) -> nn.Module:
    """Let the channels of a module's weights lie next to each other in memory, as convolutions read them fastest."""
    moved: nn.Module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def computed(
    module: nn.Module, image: Tensor, prior: Tensor, precision: Precision, margin: int = 0, pixels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Redrawn image and factor maps within a margin, or at some pixels, float32, by convolutions in a precision."""
    image, prior = (maps.contiguous(memory_format=torch.channels_last) for maps in (image, prior))
    with torch.autocast(image.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        drawn, maps = module(image, prior, margin, pixels)
    return drawn.float(), maps.float()


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    times = 5
    shape, weights = (1, _WIDTH, _SIDE, _SIDE), (_WIDTH, _WIDTH, 3, 3)
    x, w = (
        torch.ones(size, dtype=dtype, device=device).contiguous(memory_format=torch.channels_last)
        for size in (shape, weights)
    )
    clock, found = time.thread_time if device.type == "cpu" else time.perf_counter, []
    with torch.inference_mode(), _alone(device):
        for _ in range(1 + times):  # the first one also chooses the algorithm
            started = clock()
            float(F.conv2d(x, w, padding=1)[0, 0, 0, 0])  # waits for the device
            found.append(clock() - started)
    return min(found[1:])


@contextlib.contextmanager
def _alone(device: torch.device) -> Iterator[None]:
    """Compute by one thread, whose time counts by itself: several wait for each other where other programs run."""
    n_threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
