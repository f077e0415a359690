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
CLIPS, SIDE = 8, 28  # frames of the timed batch; all forms scale with them equally
REPEATS = 10


def measure_missing(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Time every shifting layer of `model` with the form `auto`, if the GPU has no rows, and store rows for this user.

    Takes less than a minute. With another model.shift, there is nothing to measure.
    """
    measured.forget()  # another rank may have measured
    layers = [part for part in model.modules() if isinstance(part, ShiftedConv2d) and part.form is auto_conv]
    shapes = {(part.in_channels, part.out_channels): part for part in layers if part.foldable}
    if device.type != "cuda" or not shapes or measured.source(device, dtype):
        return
    logger.info(f"{measured.device_name(device)} has no measurements of the shift: timing {len(shapes)} layers once")
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
    shape = CLIPS * layer.frames, layer.in_channels, SIDE, SIDE
    x_NCHW = torch.randn(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    forms = {
        "plain": lambda: conv.convolve(x_NCHW),
        "copied": lambda: shift_then_conv(shift_copy, conv, x_NCHW)[0],
        "folded": lambda: folded_conv(conv, x_NCHW)[0],
    }
    gradient = torch.randn_like(forms["plain"]())

    def both(forward: Callable[[], torch.Tensor]) -> Callable[[], None]:
        return lambda: forward().backward(gradient)

    return {name: both(forward) for name, forward in forms.items()}


def _milliseconds(work: Callable[[], None], device: torch.device) -> float:
    """Return the median time of a pass, after one pass that compiles kernels and one that warms up."""
    times = []
    for _ in range(2 + REPEATS):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[2:])
