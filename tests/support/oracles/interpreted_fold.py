"""The kernels of the folded shift in Triton's interpreter: tests for a separate process.

`tests/models/shift/test_gpu_kernels.py` runs them. The interpreter is chosen for the whole process when the kernels are
imported.
"""

import os
from itertools import product
from typing import NamedTuple

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from models.shift import folded, gpu_kernels
from models.shift.forms import temporal_shift
from models.shift.gpu_kernels import Tile

HALF = (torch.float16, torch.bfloat16)
SMALL = Tile(32, 16, 16, warps=4, stages=1)  # several tiles, and folds that end inside one


class Case(NamedTuple):
    """A convolution over shifted clips."""

    channels: int
    filters: int
    after: int
    before: int
    clips: int = 2
    frames: int = 8
    height: int = 3
    width: int = 5
    dtype: torch.dtype = torch.float32
    tile: Tile | None = None


QUICK = [
    Case(64, 64, 8, 8, height=4, width=4),
    Case(60, 20, 7, 7, clips=1, height=2, width=3),
    Case(64, 20, 8, 8, frames=1, tile=SMALL),
    Case(64, 20, 8, 8, clips=5, height=1, width=1),  # several clips in one tile
    *(Case(64, 64, 8, 8, height=7, width=7, dtype=dtype) for dtype in HALF),
]
SEVERAL_TILES = [  # each takes Triton's interpreter seconds
    Case(64, 32, 8, 8, tile=SMALL),
    Case(72, 40, 9, 9, tile=SMALL),  # no size is a multiple of another
    Case(64, 20, 0, 8, tile=SMALL),  # causal
    Case(64, 20, 8, 0, tile=SMALL),
    Case(64, 20, 5, 12, tile=SMALL),
    Case(64, 20, 0, 0, tile=SMALL),
    Case(64, 20, 32, 32, tile=SMALL),  # every channel moves
    Case(64, 20, 8, 8, clips=3, frames=2, tile=SMALL),
    Case(64, 48, 8, 8, clips=1, frames=16, tile=SMALL),
    *(Case(64, 40, 6, 10, dtype=dtype, tile=SMALL) for dtype in HALF),
]
WIDTHS = [(64, 64), (256, 64), (256, 128), (512, 128), (512, 256), (1024, 256), (1024, 512), (2048, 512)]
RESNETS = [
    Case(channels, filters, channels // 8, channels // 8, 1, frames, *size, dtype)
    for (channels, filters), frames, size, dtype in product(WIDTHS, (8, 16), [(2, 2), (5, 3)], (torch.float32, *HALF))
]


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """Fill new tensors with NaN, so that an element that a kernel does not write is found."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: empty(*args, **kwargs).fill_(torch.nan))


@pytest.fixture(autouse=True)
def numbers_in_bf16(monkeypatch):
    """Convert bf16 before products: the interpreter keeps it as integers and would multiply those."""

    def as_numbers(factor: TensorHandle) -> TensorHandle:
        if factor.dtype.scalar != tl.bfloat16:
            return factor
        return TensorHandle((factor.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    dot = InterpreterBuilder.create_dot
    monkeypatch.setattr(
        InterpreterBuilder, "create_dot", lambda self, a, b, *rest: dot(self, as_numbers(a), as_numbers(b), *rest)
    )


def made(case):
    """Return x_NCHW, weight_OC, bias_O and dy_NOHW, the same for the same case. The bias is in fp32, as it may be."""
    generator = torch.Generator().manual_seed(0)
    count, size = case.clips * case.frames, (case.height, case.width)

    def normal(*shape):
        values = torch.randn(shape, generator=generator).to(case.dtype)
        return values.to(memory_format=torch.channels_last) if len(shape) == 4 else values

    x_NCHW, weight_OC = normal(count, case.channels, *size), normal(case.filters, case.channels)
    return x_NCHW, weight_OC, normal(case.filters).float(), normal(count, case.filters, *size)


def by_definition(case, x_NCHW, weight_OC, bias_O, dy_NOHW):
    """Return y_NOHW, dx_NCHW and dweight_OC in fp64."""
    inputs = x_NCHW.double().requires_grad_(), weight_OC.double().requires_grad_()
    shifted_NCHW = temporal_shift(inputs[0], case.frames, case.after, case.before)
    y_NOHW = F.conv2d(shifted_NCHW, inputs[1][:, :, None, None], bias_O.double())
    return y_NOHW, *torch.autograd.grad(y_NOHW, inputs, dy_NOHW.double())


def assert_rounded(actual, expected):
    """Compare with a sum in fp32 that is rounded once."""
    rounding = torch.finfo(actual.dtype).eps / 2 if actual.dtype in HALF else 1e-6
    assert (actual.double() - expected).norm() <= rounding * expected.norm()


def check(case):
    x_NCHW, weight_OC, bias_O, dy_NOHW = made(case)
    y_NOHW, dx_NCHW, dweight_OC = by_definition(case, x_NCHW, weight_OC, bias_O, dy_NOHW)
    shift = case.frames, case.after, case.before
    assert_rounded(gpu_kernels.forward(x_NCHW, weight_OC, bias_O, *shift, case.tile), y_NOHW)
    assert_rounded(gpu_kernels.input_grad(dy_NOHW, weight_OC, None, *shift, case.tile), dx_NCHW)
    added_NCHW = gpu_kernels.input_grad(dy_NOHW, weight_OC, x_NCHW, *shift, case.tile)
    assert_rounded(added_NCHW, dx_NCHW + x_NCHW.double())
    assert_rounded(gpu_kernels.weight_grad(x_NCHW, dy_NOHW, *shift, case.tile), dweight_OC)


@pytest.mark.parametrize("case", [*QUICK, *(pytest.param(case, marks=pytest.mark.slow) for case in SEVERAL_TILES)])
def test_kernels_equal_the_shift_and_the_convolution_with_their_gradients(case):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", RESNETS)
def test_kernels_are_right_at_every_width_of_resnets(case):
    check(case)


@pytest.mark.parametrize("after, before", [(9, 9), (0, 8), (3, 20)])
def test_channels_that_no_frame_reads_get_a_gradient_of_zero(after, before):
    case = Case(64, 40, after, before, tile=SMALL)
    _, weight_OC, _, dy_NOHW = made(case)
    dx_NCHW = gpu_kernels.input_grad(dy_NOHW, weight_OC, None, case.frames, after, before, case.tile)
    dx_BTCHW = dx_NCHW.unflatten(0, (-1, case.frames))
    assert not dx_BTCHW[:, 0, :after].any()
    assert not dx_BTCHW[:, -1, after : after + before].any()
    assert dx_BTCHW[:, 0, after:].all() and dx_BTCHW[:, -1, after + before :].all()


def test_rows_are_split_into_parts_that_make_up_the_whole():
    case = Case(64, 16, 8, 8, clips=9, height=7, width=7)
    x_NCHW, weight_OC, bias_O, dy_NOHW = made(case)
    *_, dweight_OC = by_definition(case, x_NCHW, weight_OC, bias_O, dy_NOHW)
    tile = Tile(16, 64, 16, warps=4, stages=1)
    assert len(x_NCHW) * 7 * 7 % tile.terms  # the last part is shorter
    assert_rounded(gpu_kernels.weight_grad(x_NCHW, dy_NOHW, case.frames, 8, 8, tile), dweight_OC)


def test_outputs_are_channels_last():
    case = Case(64, 20, 8, 8)
    x_NCHW, weight_OC, _, dy_NOHW = made(case)
    y_NOHW = gpu_kernels.forward(x_NCHW, weight_OC, None, case.frames, 8, 8)
    dx_NCHW = gpu_kernels.input_grad(dy_NOHW, weight_OC, None, case.frames, 8, 8)
    assert (y_NOHW.stride(), dx_NCHW.stride()) == (dy_NOHW.stride(), x_NCHW.stride())


def on_kernels():
    """Register the kernels as the operator's CPU implementation for the rest of this process; return the operator."""
    folded._conv.register_kernel("cpu")(
        lambda x, weight, *rest: gpu_kernels.forward(x, folded._matrix(weight, x), *rest)
    )
    folded._input_grad.register_kernel("cpu")(
        lambda dy, weight, *rest: gpu_kernels.input_grad(dy, folded._matrix(weight, dy), *rest)
    )
    folded._weight_grad.register_kernel("cpu")(
        lambda x, dy, weight, *shift: folded._like(weight, gpu_kernels.weight_grad(x, dy, *shift))
    )
    return lambda x_NCHW, *rest: folded._ShiftConvWithSkip.apply(folded._nhwc(x_NCHW), *rest)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_operator_on_kernels_equals_the_products(layout):
    case = Case(64, 20, 8, 8)
    x_NCHW, weight_OC, bias_O, dy_NOHW = made(case)
    answers = []
    for convolve in (folded.shift_conv1x1_with_skip, on_kernels()):
        inputs = (
            x_NCHW.to(memory_format=layout).requires_grad_(),
            weight_OC[:, :, None, None].to(memory_format=layout).requires_grad_(),
            bias_O.requires_grad_(),
        )
        forked = convolve(*inputs, case.frames, 8, 8)
        coming_back = dy_NOHW.to(memory_format=layout), x_NCHW.square()
        gradients = torch.autograd.grad(forked, inputs, coming_back)
        assert gradients[1].stride() == inputs[1].stride()
        answers.append((*forked, *gradients))
    torch.testing.assert_close(*answers, rtol=1e-5, atol=1e-4)
