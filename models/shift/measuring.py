"""Measure the forms of the shift on an unknown GPU, once, for the layers of a network."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from models.shift import measured
from models.shift.conv import ShiftedConv2d, auto_conv, folded_conv, shift_then_conv
from models.shift.forms import shift_copy

logger = logging.getLogger(__name__)
SECONDS = 60.0  # seconds after which the remaining layers are not measured, and so not folded
SIDE = 28  # of the timed frames
VALUES = 1 << 26  # of the timed input, so that no cache holds it, as in training
REPEATS = 10
HIDDEN = 5_000_000  # cycles of the GPU, some milliseconds: longer than the host takes to launch a pass


def measure_missing(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Time the shifting layers of `model` with the form `auto` that have no row for this GPU; store rows for this user.

    Takes less than a minute. With another model.shift, there is nothing to measure.
    """
    measured.forget()  # another rank may have measured
    layers = [part for part in model.modules() if isinstance(part, ShiftedConv2d) and part.form is auto_conv]
    shapes = {(part.in_channels, part.out_channels): part for part in layers if part.foldable}
    shapes = {shape: part for shape, part in shapes.items() if measured.find(device, dtype, *shape) is None}
    if device.type != "cuda" or not shapes:
        return
    name = measured.device_name(device)
    logger.info(f"{name} has no measurements of the shift in {len(shapes)} layers: timing them once")
    measured.add(time_layers(shapes.values(), device, dtype))


def time_layers(layers, device: torch.device, dtype: torch.dtype) -> list[measured.Row]:
    """Time the layers in three forms each, forward and backward; return one row of the table per layer."""
    end = time.monotonic() + SECONDS
    found = []
    for layer in layers:
        if time.monotonic() > end:
            break
        work = _work(layer, device, dtype)
        found.append(
            {
                "device": measured.device_name(device),
                "capability": measured.capability(device).removeprefix("capability "),
                "dtype": str(dtype).removeprefix("torch."),
                "channels": layer.in_channels,
                "filters": layer.out_channels,
                **{f"{form}_ms": _milliseconds(call, device) for form, call in work.items()},
            }
        )
    return found


def _work(layer: ShiftedConv2d, device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    """Make a training pass through a copy of the layer in each form."""
    plain = nn.Conv2d(layer.in_channels, layer.out_channels, 1, bias=layer.bias is not None)
    conv = ShiftedConv2d(plain, layer.frames, layer.after, layer.before, layer.form)
    conv = conv.to(device, dtype, memory_format=torch.channels_last)
    clips = max(1, VALUES // (layer.frames * layer.in_channels * SIDE**2))
    shape = clips * layer.frames, layer.in_channels, SIDE, SIDE
    x_NCHW = torch.randn(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    forms = {
        "plain": lambda: conv.convolve(x_NCHW),
        "copied": lambda: shift_then_conv(shift_copy, conv, x_NCHW)[0],
        "folded": lambda: folded_conv(conv, x_NCHW)[0],
    }
    gradient, inputs = torch.randn_like(forms["plain"]()), (x_NCHW, conv.weight)

    def both(forward: Callable[[], torch.Tensor]) -> Callable[[], None]:
        return lambda: torch.autograd.grad(forward(), inputs, gradient)

    return {name: both(forward) for name, forward in forms.items()}


def _milliseconds(work: Callable[[], None], device: torch.device) -> float:
    """Return the median time of a pass, after one pass that compiles kernels and one that warms up."""
    once = _of_gpu if device.type == "cuda" else _of_host
    times = [once(work) for _ in range(2 + REPEATS)]
    return statistics.median(times[2:])


def _of_gpu(work: Callable[[], None]) -> float:
    """Return the milliseconds of the GPU alone, which sleeps until the host has launched the work.

    For a narrow layer, the host takes longer to launch a pass than the GPU to run it: its own clock would compare
    launches, not kernels.
    """
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(HIDDEN)
    began.record()
    work()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended)


def _of_host(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)
