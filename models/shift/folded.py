"""The temporal shift folded into the 1x1 convolution that follows it, as one operator with its gradients.

On a GPU it runs as Triton kernels that copy nothing for the shift (`gpu_kernels`). On a CPU it runs as matrix products
that copy only the shifted channels (`cpu_products`); eager mode calls those directly, without the operator. Compilers
see the kernels on a GPU, and the defining shift and convolution on other devices.

Shapes: N = B * T frames, C channels in, O channels out, H W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.library import triton_op

from models.shift import cpu_products
from models.shift.forms import shift_where, unshift_where

try:
    from models.shift.gpu_kernels import forward, input_grad, weight_grad
except ImportError:  # PyTorch without CUDA has no Triton
    forward = input_grad = weight_grad = None


def shift_conv1x1(x_NCHW: Tensor, weight_OC11: Tensor, bias_O: Tensor | None, *shift: int) -> Tensor:
    """Return the y_NOHW of `shift_conv1x1_with_skip`."""
    y_NOHW, _ = shift_conv1x1_with_skip(x_NCHW, weight_OC11, bias_O, *shift)
    return y_NOHW


def shift_conv1x1_with_skip(
    x_NCHW: Tensor, weight_OC11: Tensor, bias_O: Tensor | None, frames: int, after: int, before: int
) -> tuple[Tensor, Tensor]:
    """Return conv2d(temporal_shift(x_NCHW, frames, after, before), weight_OC11, bias_O) in channels_last; and x_NCHW.

    The skip connection should read the returned x_NCHW: in eager mode, its gradient is then added while the input
    gradient of the convolution is written, which saves a pass over memory.

    Computes in the dtype of x_NCHW, or in autocast's, and sums in fp32. Weight and bias may stay in fp32 while x_NCHW
    is half; their gradients have their dtype and strides, as DDP requires. Differentiable once. Raises ValueError if
    the shapes do not fit.
    """
    _check(x_NCHW.shape, weight_OC11.shape, frames, after + before)
    given, x_NCHW = x_NCHW, _nhwc(x_NCHW.to(compute_type(x_NCHW)))
    if torch.compiler.is_compiling():
        return _conv(x_NCHW, weight_OC11, bias_O, frames, after, before), given
    if type(x_NCHW) is Tensor and x_NCHW.is_cpu:  # tracers and tensors without data need the operators
        weight_OC11, bias_O = weight_OC11.to(x_NCHW.dtype), _cast(bias_O, x_NCHW)  # cast once, not in each pass
        y_NOHW, same_NCHW = cpu_products.ShiftConv1x1.apply(x_NCHW, weight_OC11, bias_O, frames, after, before)
    else:
        y_NOHW, same_NCHW = _ShiftConvWithSkip.apply(x_NCHW, weight_OC11, bias_O, frames, after, before)
    return y_NOHW, same_NCHW if given is x_NCHW and given.requires_grad else given


def compute_type(x_NCHW: Tensor) -> torch.dtype:
    """Return the dtype that a convolution of x_NCHW computes in: its own, or autocast's."""
    device = x_NCHW.device.type
    autocast = device in ("cpu", "cuda") and torch.is_autocast_enabled(device)  # raises for `meta`
    return torch.get_autocast_dtype(device) if autocast else x_NCHW.dtype


@triton_op("tsm::shift_conv1x1", mutates_args=())
def _conv(x_NCHW: Tensor, weight_OC11: Tensor, bias_O: Tensor | None, frames: int, after: int, before: int) -> Tensor:
    if x_NCHW.is_cuda:
        return forward(x_NCHW, _matrix(weight_OC11, x_NCHW), bias_O, frames, after, before)
    shifted_NCHW = shift_where(x_NCHW, frames, after, before)
    return _nhwc(F.conv2d(shifted_NCHW, weight_OC11.to(x_NCHW.dtype), _cast(bias_O, x_NCHW)))


@triton_op("tsm::shift_conv1x1_input_grad", mutates_args=())
def _input_grad(
    dy_NOHW: Tensor, weight_OC11: Tensor, added_NCHW: Tensor | None, frames: int, after: int, before: int
) -> Tensor:
    if dy_NOHW.is_cuda:
        return input_grad(dy_NOHW, _matrix(weight_OC11, dy_NOHW), added_NCHW, frames, after, before)
    shape = (len(dy_NOHW), weight_OC11.shape[1], *dy_NOHW.shape[2:])
    dshifted_NCHW = torch.nn.grad.conv2d_input(shape, weight_OC11.to(dy_NOHW.dtype), dy_NOHW)
    dx_NCHW = unshift_where(dshifted_NCHW, frames, after, before)
    return _nhwc(dx_NCHW if added_NCHW is None else dx_NCHW + added_NCHW)


@triton_op("tsm::shift_conv1x1_weight_grad", mutates_args=())
def _weight_grad(x_NCHW: Tensor, dy_NOHW: Tensor, weight_OC11: Tensor, frames: int, after: int, before: int) -> Tensor:
    if x_NCHW.is_cuda:
        return _like(weight_OC11, weight_grad(x_NCHW, dy_NOHW, frames, after, before))
    shifted_NCHW = shift_where(x_NCHW, frames, after, before)
    return _like(weight_OC11, torch.nn.grad.conv2d_weight(shifted_NCHW, weight_OC11.shape, dy_NOHW)[:, :, 0, 0])


@_conv.register_kernel("cpu")  # for exported programs
def _(x_NCHW, weight_OC11, bias_O, frames, after, before):
    return cpu_products.forward(x_NCHW, _matrix(weight_OC11, x_NCHW), _cast(bias_O, x_NCHW), frames, after, before)


def _keep(ctx, inputs: tuple, output: Tensor) -> None:
    x_NCHW, weight_OC11, bias_O, *ctx.shift = inputs
    ctx.save_for_backward(x_NCHW, weight_OC11, bias_O)


def _gradients(ctx, dy_NOHW: Tensor, added_NCHW: Tensor | None = None) -> tuple[Tensor | None, ...]:
    """Return the gradients of `_conv`'s arguments; `added_NCHW` is added to that of x_NCHW."""
    x_NCHW, weight_OC11, bias_O = ctx.saved_tensors
    dy_NOHW, dx_NCHW, dweight_OC11, dbias_O = _nhwc(dy_NOHW), None, None, None
    if ctx.needs_input_grad[0]:
        added_NCHW = None if added_NCHW is None else _nhwc(added_NCHW)
        dx_NCHW = _input_grad(dy_NOHW, weight_OC11, added_NCHW, *ctx.shift)
    if ctx.needs_input_grad[1]:
        dweight_OC11 = _weight_grad(x_NCHW, dy_NOHW, weight_OC11, *ctx.shift)
    if ctx.needs_input_grad[2]:
        dbias_O = dy_NOHW.sum((0, 2, 3), dtype=bias_O.dtype)
    return dx_NCHW, dweight_OC11, dbias_O, None, None, None


_conv.register_autograd(_gradients, setup_context=_keep)


class _ShiftConvWithSkip(torch.autograd.Function):
    """The operators in eager mode: returns y_NOHW and x_NCHW; backward sums their two gradients in one pass."""

    @staticmethod
    def forward(ctx, x_NCHW: Tensor, *rest) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        y_NOHW = _conv(x_NCHW, *rest)
        _keep(ctx, (x_NCHW, *rest), y_NOHW)
        return y_NOHW, x_NCHW

    @staticmethod
    @once_differentiable
    def backward(ctx, dy_NOHW: Tensor | None, dx_NCHW: Tensor | None):
        return (dx_NCHW, *[None] * 5) if dy_NOHW is None else _gradients(ctx, dy_NOHW, dx_NCHW)


def _check(shape: torch.Size, filters: torch.Size, frames: int, moved: int) -> None:
    if shape[0] % frames:
        raise ValueError(f"{shape[0]} frames are not a multiple of {frames}, the frames of a clip")
    if filters[1:] != (shape[1], 1, 1):
        raise ValueError(f"a weight of shape {tuple(filters)} is not that of a 1x1 convolution of {shape[1]} channels")
    if moved > shape[1]:
        raise ValueError(f"{moved} channels cannot be shifted: there are only {shape[1]}")


def _nhwc(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.contiguous(memory_format=torch.channels_last)


def _cast(bias_O: Tensor | None, like: Tensor) -> Tensor | None:
    return None if bias_O is None else bias_O.to(like.dtype)


def _matrix(weight_OC11: Tensor, values: Tensor) -> Tensor:
    """Return weight_OC, contiguous, in the dtype of the tensor that it multiplies."""
    return weight_OC11[:, :, 0, 0].to(values.dtype).contiguous()


def _like(weight_OC11: Tensor, gradient_OC: Tensor) -> Tensor:
    """Return the gradient with the dtype and strides of the weight; DDP would copy it again if those differed."""
    return torch.empty_like(weight_OC11).copy_(gradient_OC[:, :, None, None])
