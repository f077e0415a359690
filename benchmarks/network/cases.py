"""The shifting convolutions, one by one, and the work that is timed for each.

Shapes: N = B * T frames, C channels in, O channels out, H W pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.network.scale import Precision, Scale
from configs.schema import Model
from engine.runtime import HALF
from models import build_model
from models.shift import cpu_products, gpu_kernels
from models.shift.conv import ShiftedConv2d
from models.shift.forms import shift_copy, temporal_shift, unshift_copy
from models.shift.gpu_kernels import Tile

PASSES = ("forward", "input_grad", "weight_grad")
WAYS = ("plain", "copied", "folded")  # without a shift, with a copy before the convolution, folded into it
PROVED = 2  # clips whose results are compared with fp64

Work = Callable[[], Tensor]


class Layer(NamedTuple):
    """A shifting convolution on square feature maps."""

    channels: int
    filters: int
    side: int

    @property
    def name(self) -> str:
        return f"{self.channels}to{self.filters}at{self.side}"


class Tiles(NamedTuple):
    """The tiles of the three kernels; None leaves the choice to the kernel."""

    forward: Tile | None = None
    input_grad: Tile | None = None
    weight_grad: Tile | None = None


class Example(NamedTuple):
    """The inputs of a convolution, forward and backward, in NHWC memory, and the shift of its input."""

    x_NCHW: Tensor
    weight_OC11: Tensor
    dy_NOHW: Tensor
    shift: tuple[int, int, int]  # frames, after, before


def layers(scale: Scale) -> Counter[Layer]:
    """Count the convolutions of ResNet-50 that shift, at this scale, by their size."""
    found: Counter[Layer] = Counter()

    def counting(conv: ShiftedConv2d, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        found[Layer(conv.in_channels, conv.out_channels, x_NCHW.shape[-1])] += 1
        return conv.convolve(x_NCHW), x_NCHW

    with torch.device("meta"):
        model = build_model(Model(width=scale.width, frames=scale.frames, num_classes=2))
        for part in model.modules():
            if isinstance(part, ShiftedConv2d):
                part.form = counting
        model(torch.empty(1, scale.frames, 3, scale.size, scale.size))
    return found


def example(scale: Scale, layer: Layer, precision: Precision, clips: int) -> Example:
    """Return normally distributed inputs, because zeros are computed faster."""

    def normal(*shape: int) -> Tensor:
        numbers = torch.randn(shape, device=scale.device).to(HALF.get(precision, torch.float32))
        return numbers.to(memory_format=torch.channels_last)

    count, side, fold = clips * scale.frames, layer.side, layer.channels // Model.shift_div
    weight_OC11 = normal(layer.filters, layer.channels, 1, 1) / layer.channels**0.5
    x_NCHW, dy_NOHW = (normal(count, width, side, side) for width in (layer.channels, layer.filters))
    return Example(x_NCHW, weight_OC11, dy_NOHW, (scale.frames, fold, fold))


def work(of: Example, tiles: Tiles) -> dict[tuple[str, str], Work]:
    """Return the functions to time, by implementation and pass. The weight gradient reuses the forward pass's copy."""
    x_NCHW, weight_OC11, dy_NOHW, shift = of
    shifted_NCHW = shift_copy(x_NCHW, *shift)
    return {
        ("plain", "forward"): lambda: F.conv2d(x_NCHW, weight_OC11),
        ("plain", "input_grad"): lambda: _gradient(0, dy_NOHW, x_NCHW, weight_OC11),
        ("plain", "weight_grad"): lambda: _gradient(1, dy_NOHW, x_NCHW, weight_OC11),
        ("copied", "forward"): lambda: F.conv2d(shift_copy(x_NCHW, *shift), weight_OC11),
        ("copied", "input_grad"): lambda: unshift_copy(_gradient(0, dy_NOHW, x_NCHW, weight_OC11), *shift),
        ("copied", "weight_grad"): lambda: _gradient(1, dy_NOHW, shifted_NCHW, weight_OC11),
        **{("folded", name): call for name, call in folded(of, tiles).items()},
    }


def folded(of: Example, tiles: Tiles) -> dict[str, Work]:
    """Return the passes of the folded form: kernels on a GPU, matrix products on a CPU."""
    x_NCHW, weight_OC11, dy_NOHW, shift = of
    weight_OC = weight_OC11[:, :, 0, 0]
    if not x_NCHW.is_cuda:
        moved_NCHW = cpu_products.moved_columns(x_NCHW, *shift)
        return {
            "forward": partial(cpu_products.forward, x_NCHW, weight_OC, None, *shift),
            "input_grad": partial(cpu_products.input_grad, dy_NOHW, weight_OC, None, *shift),
            "weight_grad": partial(cpu_products.weight_grad, x_NCHW, dy_NOHW, weight_OC11, moved_NCHW),
        }
    reads = {
        "forward": (x_NCHW, weight_OC, None),
        "input_grad": (dy_NOHW, weight_OC, None),
        "weight_grad": (x_NCHW, dy_NOHW),
    }
    return {
        name: partial(getattr(gpu_kernels, name), *reads[name], *shift, tile)
        for name, tile in zip(PASSES, tiles, strict=True)
    }


def check_results(scale: Scale, layer: Layer, precision: Precision, tiles: Tiles) -> None:
    """Raise ValueError if the folded form differs from fp64 by more than rounding."""
    of = example(scale, layer, precision, PROVED)
    exact = of.x_NCHW.double().requires_grad_(), of.weight_OC11.double().requires_grad_()
    y_NOHW = F.conv2d(temporal_shift(exact[0], *of.shift), exact[1])
    expected = y_NOHW, *torch.autograd.grad(y_NOHW, exact, of.dy_NOHW.double())
    bound = torch.finfo(of.x_NCHW.dtype).eps if precision in HALF else 1e-5
    for (name, call), wanted in zip(folded(of, tiles).items(), expected, strict=True):
        far = ((call().double().view(wanted.shape) - wanted).norm() / wanted.norm()).item()
        if not far <= bound:
            raise ValueError(
                f"{name} of {layer.name} in {precision} is wrong: {far:.1e} away from fp64, not {bound:.1e}"
            )


def _gradient(which: int, dy_NOHW: Tensor, x_NCHW: Tensor, weight_OC11: Tensor) -> Tensor:
    """Compute the gradient of the input (0) or of the weight (1) alone."""
    mask = [which == 0, which == 1, False]
    sizes = [1, 1], [0, 0], [1, 1], False, [0, 0], 1
    return torch.ops.aten.convolution_backward(dy_NOHW, x_NCHW, weight_OC11, None, *sizes, mask)[which]
