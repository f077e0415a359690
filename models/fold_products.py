"""The 1x1 convolution with the temporal shift folded in, as products of matrices: the form for CPUs.

In NHWC memory the frames of a batch are a matrix of M = N * H * W rows and C columns. Most columns stay where they are,
and are multiplied as a view; only those that move are copied, and multiplied for themselves. The gradient of the input
is one product, of which those columns are moved back where they lie.

Shapes: N = B * T frames, M rows of the matrix, C channels in, O channels out.
"""

import torch
from torch import Tensor

from models.shift import shift_copy


def forward(x_NCHW: Tensor, weight_OC: Tensor, frames: int, after: int, before: int) -> Tensor:
    """y_NOHW, channels_last as x_NCHW must be; both inputs are of one type. Rounded after each of two products."""
    moved = after + before
    shifted_MC = _matrix(shift_copy(x_NCHW[:, :moved], frames, after, before))
    y_MO = _matrix(x_NCHW)[:, moved:] @ weight_OC[:, moved:].T
    y_MO.addmm_(shifted_MC, weight_OC[:, :moved].T)
    return _frames(y_MO, x_NCHW)


def input_grad(dy_NOHW: Tensor, weight_OC: Tensor, frames: int, after: int, before: int) -> Tensor:
    """dx_NCHW, channels_last as dy_NOHW must be; both inputs are of one type."""
    dx_NCHW = _frames(_matrix(dy_NOHW) @ weight_OC, dy_NOHW)
    _unshift(dx_NCHW.unflatten(0, (-1, frames)), after, before)
    return dx_NCHW


def weight_grad(x_NCHW: Tensor, dy_NOHW: Tensor, frames: int, after: int, before: int) -> Tensor:
    """dweight_OC; both inputs are channels_last and of one type."""
    moved, dy_OM = after + before, _matrix(dy_NOHW).T
    shifted_MC = _matrix(shift_copy(x_NCHW[:, :moved], frames, after, before))
    dweight_OC = dy_OM.new_empty(len(dy_OM), x_NCHW.shape[1])
    torch.mm(dy_OM, shifted_MC, out=dweight_OC[:, :moved])
    torch.mm(dy_OM, _matrix(x_NCHW)[:, moved:], out=dweight_OC[:, moved:])
    return dweight_OC


def _unshift(x_BTCHW: Tensor, after: int, before: int) -> None:
    """The transpose of the shift, in place: frame by frame, so that nothing is overwritten that is still to be read."""
    first, second, frames = slice(0, after), slice(after, after + before), x_BTCHW.shape[1]
    for frame in reversed(range(1, frames)):
        x_BTCHW[:, frame, first] = x_BTCHW[:, frame - 1, first]
    for frame in range(1, frames):
        x_BTCHW[:, frame - 1, second] = x_BTCHW[:, frame, second]
    x_BTCHW[:, 0, first] = 0
    x_BTCHW[:, -1, second] = 0


def _matrix(x_NCHW: Tensor) -> Tensor:
    """x_MC, a view."""
    return x_NCHW.permute(0, 2, 3, 1).flatten(0, 2)


def _frames(x_MC: Tensor, like_NCHW: Tensor) -> Tensor:
    """x_NCHW, a channels_last view, with the pictures' size of another."""
    return x_MC.unflatten(0, (-1, *like_NCHW.shape[2:])).permute(0, 3, 1, 2)
