"""The temporal shift folded into the 1x1 convolution that follows it, as one operator with its gradients.

On a GPU Triton kernels do it, and the shift moves no bytes of its own (`fold_kernels`). On a CPU products of matrices
do, and only the channels that move are copied (`fold_products`): eager PyTorch calls them without the operator.
Compilers see the kernels of a GPU, and elsewhere the shift and the convolution that define it.

Shapes: N = B * T frames, C channels in, O channels out, H W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.library import triton_op

from models import fold_products
from models.shift import shift_where, unshift_where

try:
    from models.fold_kernels import forward, input_grad, weight_grad
except ImportError:  # PyTorch without CUDA comes without Triton
    forward = input_grad = weight_grad = None


def shift_conv1x1(
    x_NCHW: Tensor, weight_OC11: Tensor, bias_O: Tensor | None, frames: int, after: int, before: int
) -> Tensor:
    """y_NOHW = conv2d(temporal_shift(x_NCHW, frames, after, before), weight_OC11, bias_O), channels_last.

    Computed in the type of x_NCHW, or in autocast's, and summed in fp32. Weight and bias may stay in fp32 while x_NCHW
    is half; their gradients have their type, and their strides, which DDP wants. Differentiable once. Raises ValueError
    where the shapes do not fit.
    """
    _check(x_NCHW.shape, weight_OC11.shape, frames, after + before)
    x_NCHW = _nhwc(x_NCHW.to(compute_type(x_NCHW)))
    eager = type(x_NCHW) is Tensor and not torch.compiler.is_compiling()  # what has no data is to see the operator
    if eager and x_NCHW.is_cpu:  # the weight is cast once, not in each pass
        bias_O = None if bias_O is None else bias_O.to(x_NCHW.dtype)
        return fold_products.ShiftConv1x1.apply(x_NCHW, weight_OC11.to(x_NCHW.dtype), bias_O, frames, after, before)
    return _conv(x_NCHW, weight_OC11, bias_O, frames, after, before)


def compute_type(x_NCHW: Tensor) -> torch.dtype:
    """The type that a convolution of x_NCHW computes in: its own, or autocast's."""
    device = x_NCHW.device.type
    autocast = device in ("cpu", "cuda") and torch.is_autocast_enabled(device)  # asking of `meta` is an error
    return torch.get_autocast_dtype(device) if autocast else x_NCHW.dtype


@triton_op("tsm::shift_conv1x1", mutates_args=())
def _conv(x_NCHW: Tensor, weight_OC11: Tensor, bias_O: Tensor | None, frames: int, after: int, before: int) -> Tensor:
    if x_NCHW.is_cuda:
        return forward(x_NCHW, _matrix(weight_OC11, x_NCHW), bias_O, frames, after, before)
    bias_O = None if bias_O is None else bias_O.to(x_NCHW.dtype)
    return _nhwc(F.conv2d(shift_where(x_NCHW, frames, after, before), weight_OC11.to(x_NCHW.dtype), bias_O))


@triton_op("tsm::shift_conv1x1_input_grad", mutates_args=())
def _input_grad(dy_NOHW: Tensor, weight_OC11: Tensor, frames: int, after: int, before: int) -> Tensor:
    if dy_NOHW.is_cuda:
        return input_grad(dy_NOHW, _matrix(weight_OC11, dy_NOHW), frames, after, before)
    shape = (len(dy_NOHW), weight_OC11.shape[1], *dy_NOHW.shape[2:])
    dshifted_NCHW = torch.nn.grad.conv2d_input(shape, weight_OC11.to(dy_NOHW.dtype), dy_NOHW)
    return _nhwc(unshift_where(dshifted_NCHW, frames, after, before))


@triton_op("tsm::shift_conv1x1_weight_grad", mutates_args=())
def _weight_grad(x_NCHW: Tensor, dy_NOHW: Tensor, weight_OC11: Tensor, frames: int, after: int, before: int) -> Tensor:
    if x_NCHW.is_cuda:
        return _like(weight_OC11, weight_grad(x_NCHW, dy_NOHW, frames, after, before))
    shifted_NCHW = shift_where(x_NCHW, frames, after, before)
    return _like(weight_OC11, torch.nn.grad.conv2d_weight(shifted_NCHW, weight_OC11.shape, dy_NOHW)[:, :, 0, 0])


@_conv.register_kernel("cpu")  # for exported programs
def _(x_NCHW, weight_OC11, bias_O, frames, after, before):
    bias_O = None if bias_O is None else bias_O.to(x_NCHW.dtype)
    return fold_products.forward(x_NCHW, _matrix(weight_OC11, x_NCHW), bias_O, frames, after, before)


def _setup_context(ctx, inputs, output) -> None:
    x_NCHW, weight_OC11, bias_O, *ctx.shift = inputs
    ctx.save_for_backward(x_NCHW, weight_OC11, bias_O)


def _backward(ctx, dy_NOHW: Tensor):
    x_NCHW, weight_OC11, bias_O = ctx.saved_tensors
    dy_NOHW = _nhwc(dy_NOHW)
    dx_NCHW = _input_grad(dy_NOHW, weight_OC11, *ctx.shift) if ctx.needs_input_grad[0] else None
    dweight_OC11 = _weight_grad(x_NCHW, dy_NOHW, weight_OC11, *ctx.shift) if ctx.needs_input_grad[1] else None
    dbias_O = dy_NOHW.sum((0, 2, 3), dtype=bias_O.dtype) if ctx.needs_input_grad[2] else None
    return dx_NCHW, dweight_OC11, dbias_O, None, None, None


_conv.register_autograd(_backward, setup_context=_setup_context)


def _check(shape: torch.Size, filters: torch.Size, frames: int, moved: int) -> None:
    if shape[0] % frames:
        raise ValueError(f"{shape[0]} frames are not whole clips of {frames}")
    if filters[1:] != (shape[1], 1, 1):
        raise ValueError(f"a weight of shape {tuple(filters)} is no 1x1 convolution of {shape[1]} channels")
    if moved > shape[1]:
        raise ValueError(f"{moved} channels cannot be shifted where there are {shape[1]}")


def _nhwc(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.contiguous(memory_format=torch.channels_last)


def _matrix(weight_OC11: Tensor, values: Tensor) -> Tensor:
    """weight_OC in the type of what it is multiplied with, contiguous."""
    return weight_OC11[:, :, 0, 0].to(values.dtype).contiguous()


def _like(weight_OC11: Tensor, gradient_OC: Tensor) -> Tensor:
    """The gradient in the type and with the strides of the weight: DDP copies once more where those differ."""
    return torch.empty_like(weight_OC11).copy_(gradient_OC[:, :, None, None])
