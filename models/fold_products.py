"""The 1x1 convolution with the temporal shift folded in, as matrix products of views: the form for CPUs.

In NHWC memory the frames of a batch are a matrix of M = N * H * W rows and C columns. The channels that stay, those
that show the next frame and those that show the previous one are three blocks of columns, and each block's rows lie as
many frames away as it shows: three products of views, added up, read everything once and copy nothing. In half
precision the sum is rounded after each product.

Shapes: N = B * T frames, M rows of the matrix, C channels in, O channels out.
"""

from collections.abc import Iterator

import torch
from torch import Tensor


def forward(x_NCHW: Tensor, weight_OC: Tensor, frames: int, after: int, before: int) -> Tensor:
    """y_NOHW, channels_last as x_NCHW must be; both inputs are of one type."""
    count, _, height, width = x_NCHW.shape
    x_MC = _matrix(x_NCHW)
    (_, _, same), *moved = _blocks(count, frames, height * width, after, before)
    y_MO = x_MC[:, same] @ weight_OC[:, same].T
    for to, of, channels in moved:
        y_MO[to].addmm_(x_MC[of, channels], weight_OC[:, channels].T)
    return _frames(y_MO, height, width)


def input_grad(dy_NOHW: Tensor, weight_OC: Tensor, frames: int, after: int, before: int) -> Tensor:
    """dx_NCHW, channels_last as dy_NOHW must be; both inputs are of one type."""
    count, _, height, width = dy_NOHW.shape
    dy_MO = _matrix(dy_NOHW)
    dx_MC = dy_MO.new_empty(len(dy_MO), weight_OC.shape[1])
    dx_BTCHW = _frames(dx_MC, height, width).unflatten(0, (-1, frames))
    dx_BTCHW[:, 0, :after] = 0  # what no frame has read
    dx_BTCHW[:, -1, after : after + before] = 0
    for to, of, channels in _blocks(count, frames, height * width, after, before):
        torch.mm(dy_MO[to], weight_OC[:, channels], out=dx_MC[of, channels])
    return dx_BTCHW.flatten(0, 1)


def weight_grad(x_NCHW: Tensor, dy_NOHW: Tensor, frames: int, after: int, before: int) -> Tensor:
    """dweight_OC in fp32 at least; both inputs are channels_last and of one type."""
    count, channels, height, width = x_NCHW.shape
    x_MC, dy_MO = _matrix(x_NCHW), _matrix(dy_NOHW)
    dtype = torch.promote_types(x_NCHW.dtype, torch.float32)
    dweight_OC = dy_MO.new_zeros(dy_MO.shape[1], channels, dtype=dtype)
    for to, of, block in _blocks(count, frames, height * width, after, before):
        dweight_OC[:, block] += dy_MO[to].T @ x_MC[of, block]
    return dweight_OC


def _blocks(count: int, frames: int, pixels: int, after: int, before: int) -> Iterator[tuple[slice, slice, slice]]:
    """Which rows of the output read which rows of the input, in which channels: first those that stay."""
    yield slice(None), slice(None), slice(after + before, None)
    for first in range(0, count * pixels, frames * pixels):
        last = first + frames * pixels
        early, late = slice(first, last - pixels), slice(first + pixels, last)
        yield early, late, slice(0, after)
        yield late, early, slice(after, after + before)


def _matrix(x_NCHW: Tensor) -> Tensor:
    """x_MC, a view."""
    return x_NCHW.permute(0, 2, 3, 1).flatten(0, 2)


def _frames(x_MC: Tensor, height: int, width: int) -> Tensor:
    """x_NCHW, a channels_last view."""
    return x_MC.unflatten(0, (-1, height, width)).permute(0, 3, 1, 2)
