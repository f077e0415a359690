"""The 1x1 convolution with the temporal shift folded in, as products of matrices: the form for CPUs.

In NHWC memory the frames of a batch are a matrix of M = N * H * W rows and C columns. The unshifted columns are
multiplied as a view; the shifted columns are copied and multiplied separately. The gradient of the input is one
product; its shifted columns are then moved back in place.

Shapes: N = B * T frames, M rows of the matrix, C channels in, O channels out.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from models.shift.forms import move


class ShiftConv1x1(torch.autograd.Function):
    """Map x_NCHW, weight_OC11, bias_O, frames, after, before to y_NOHW and x_NCHW.

    Equals the operators in `folded`, with less overhead per call. Saves the shifted columns for the weight's gradient.
    """

    @staticmethod
    def forward(ctx, x_NCHW: Tensor, weight_OC11: Tensor, bias_O: Tensor | None, *shift: int) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        moved_NCHW = moved_columns(x_NCHW, *shift)
        ctx.save_for_backward(x_NCHW, weight_OC11, moved_NCHW)
        ctx.shift = shift
        return _product(x_NCHW, weight_OC11[:, :, 0, 0], bias_O, moved_NCHW), x_NCHW

    @staticmethod
    @once_differentiable
    def backward(ctx, dy_NOHW: Tensor | None, added_NCHW: Tensor | None):
        if dy_NOHW is None:
            return added_NCHW, *[None] * 5
        x_NCHW, weight_OC11, moved_NCHW = ctx.saved_tensors
        dy_NOHW, weight_OC = dy_NOHW.contiguous(memory_format=torch.channels_last), weight_OC11[:, :, 0, 0]
        dx_NCHW = input_grad(dy_NOHW, weight_OC, added_NCHW, *ctx.shift) if ctx.needs_input_grad[0] else None
        dweight_OC11 = weight_grad(x_NCHW, dy_NOHW, weight_OC11, moved_NCHW) if ctx.needs_input_grad[1] else None
        dbias_O = dy_NOHW.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return dx_NCHW, dweight_OC11, dbias_O, None, None, None


def forward(x_NCHW: Tensor, weight_OC: Tensor, bias_O: Tensor | None, frames: int, after: int, before: int) -> Tensor:
    """Return y_NOHW; it and x_NCHW are channels_last; all have one dtype. Rounds after each of two products."""
    return _product(x_NCHW, weight_OC, bias_O, moved_columns(x_NCHW, frames, after, before))


def input_grad(
    dy_NOHW: Tensor, weight_OC: Tensor, added_NCHW: Tensor | None, frames: int, after: int, before: int
) -> Tensor:
    """Return dx_NCHW plus added_NCHW; it and dy_NOHW are channels_last; all inputs have one dtype."""
    dx_NCHW = _frames(_matrix(dy_NOHW) @ weight_OC, dy_NOHW)
    moved_NCHW = dx_NCHW[:, : after + before].clone()
    move(moved_NCHW, dx_NCHW, frames, ahead=slice(after, after + before), behind=slice(0, after))
    return dx_NCHW if added_NCHW is None else dx_NCHW.add_(added_NCHW)


def weight_grad(x_NCHW: Tensor, dy_NOHW: Tensor, weight_OC11: Tensor, moved_NCHW: Tensor) -> Tensor:
    """Return dweight_OC11 with the strides of the weight; inputs are channels_last and of one dtype."""
    dweight_OC11, moved, dy_OM = torch.empty_like(weight_OC11), moved_NCHW.shape[1], _matrix(dy_NOHW).T
    torch.mm(dy_OM, _matrix(moved_NCHW), out=dweight_OC11[:, :moved, 0, 0])
    torch.mm(dy_OM, _matrix(x_NCHW)[:, moved:], out=dweight_OC11[:, moved:, 0, 0])
    return dweight_OC11


def moved_columns(x_NCHW: Tensor, frames: int, after: int, before: int) -> Tensor:
    """Return only the shifted channels, in NHWC memory."""
    count, _, height, width = x_NCHW.shape
    moved_NCHW = x_NCHW.new_empty(count, height, width, after + before).permute(0, 3, 1, 2)
    move(x_NCHW, moved_NCHW, frames, ahead=slice(0, after), behind=slice(after, after + before))
    return moved_NCHW


def _product(x_NCHW: Tensor, weight_OC: Tensor, bias_O: Tensor | None, moved_NCHW: Tensor) -> Tensor:
    moved = moved_NCHW.shape[1]
    y_MO = F.linear(_matrix(x_NCHW)[:, moved:], weight_OC[:, moved:], bias_O)
    return _frames(y_MO.addmm_(_matrix(moved_NCHW), weight_OC[:, :moved].T), x_NCHW)


def _matrix(x_NCHW: Tensor) -> Tensor:
    """Return x_MC, a view."""
    return x_NCHW.permute(0, 2, 3, 1).flatten(0, 2)


def _frames(x_MC: Tensor, like_NCHW: Tensor) -> Tensor:
    """Return x_NCHW, a channels_last view, with the height and width of `like_NCHW`."""
    return x_MC.unflatten(0, (-1, *like_NCHW.shape[2:])).permute(0, 3, 1, 2)
