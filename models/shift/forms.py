"""The temporal shift: its definition, and faster implementations.

MIT's convention: the first `after` channels come from the next frame, the following `before` channels from the previous
frame, and the others are unchanged; beyond the ends of a clip there are zeros. Both are usually an eighth of the
channels; `after` is 0 in causal networks.

Shapes: N = B * T frames of B clips, C channels, H W pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Shift = Callable[[Tensor, int, int, int], Tensor]  # x_NCHW, frames, after, before


def temporal_shift(x_NCHW: Tensor, frames: int, after: int, before: int) -> Tensor:
    """Take the first `after` channels from the next frame and the following `before` from the previous one.

    Frames beyond the ends of a clip are zeros. This is the definition, against which the faster forms are tested.
    Source: Lin et al., arXiv 1811.08383.
    """
    first, second, same = _channels(after, before)
    out_NCHW = torch.zeros_like(x_NCHW)  # keeps channels_last, which a 5-D torch.cat silently drops
    x_BTCHW, out_BTCHW = (a.unflatten(0, (-1, frames)) for a in (x_NCHW, out_NCHW))
    out_BTCHW[:, :-1, first] = x_BTCHW[:, 1:, first]
    out_BTCHW[:, 1:, second] = x_BTCHW[:, :-1, second]
    out_BTCHW[:, :, same] = x_BTCHW[:, :, same]
    return out_NCHW


def shift_copy(x_NCHW: Tensor, frames: int, after: int, before: int) -> Tensor:
    """Compute `temporal_shift` with one read and write per value, also in the backward pass: the fast form in eager
    mode.
    """
    return _CopyShift.apply(x_NCHW, frames, after, before, 1)


def shift_where(x_NCHW: Tensor, frames: int, after: int, before: int) -> Tensor:
    """Compute `temporal_shift` as one expression, which compilers fuse with adjacent operations; slow in eager mode."""
    return _WhereShift.apply(x_NCHW, frames, after, before, 1)


def shift_concat(x_NCHW: Tensor, frames: int, after: int, before: int) -> Tensor:
    """Compute `temporal_shift` by slices, pads and a concatenation, for export; loses channels_last.

    The assignments to slices of the reference would become ScatterND in ONNX, which is slow in TensorRT.
    """
    first, second, same = _channels(after, before)
    x_BTCHW = x_NCHW.unflatten(0, (-1, frames))
    parts = [F.pad(x_BTCHW[:, :-1, second], (0, 0, 0, 0, 0, 0, 1, 0)), x_BTCHW[:, :, same]]
    if after:  # TensorRT refuses a part without channels
        parts.insert(0, F.pad(x_BTCHW[:, 1:, first], (0, 0, 0, 0, 0, 0, 0, 1)))
    return torch.cat(parts, 2).flatten(0, 1)


def unshift_copy(x_NCHW: Tensor, frames: int, after: int, before: int) -> Tensor:
    """Compute the transpose of `shift_copy`, which is its gradient: each channel moves in the opposite direction."""
    return _CopyShift.apply(x_NCHW, frames, after, before, -1)


def unshift_where(x_NCHW: Tensor, frames: int, after: int, before: int) -> Tensor:
    """Compute the transpose of `shift_where`, which is its gradient."""
    return _WhereShift.apply(x_NCHW, frames, after, before, -1)


def move(x_NCHW: Tensor, out_NCHW: Tensor, frames: int, ahead: slice, behind: slice) -> None:
    """Write only the shifted channels: `ahead` from the next frame, `behind` from the previous one."""
    x_BTCHW, out_BTCHW = (a.unflatten(0, (-1, frames)) for a in (x_NCHW, out_NCHW))
    out_BTCHW[:, :-1, ahead] = x_BTCHW[:, 1:, ahead]
    out_BTCHW[:, -1, ahead] = 0
    out_BTCHW[:, 1:, behind] = x_BTCHW[:, :-1, behind]
    out_BTCHW[:, 0, behind] = 0


def shift_auto(x_NCHW: Tensor, frames: int, after: int, before: int) -> Tensor:
    """Compute `temporal_shift` in the form that is fast in the current mode, or that can be exported."""
    if exporting():
        return shift_concat(x_NCHW, frames, after, before)
    shift = shift_where if torch.compiler.is_compiling() else shift_copy
    return shift(x_NCHW, frames, after, before)


def exporting() -> bool:
    """Return True while torch.export traces. (torch 2.11 reports is_exporting under torch.compile as well.)"""
    return torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling()


def _channels(after: int, before: int) -> tuple[slice, slice, slice]:
    """Return the channels that come from the next frame, the previous frame, and the frame itself."""
    return slice(0, after), slice(after, after + before), slice(after + before, None)


class _CopyShift(torch.autograd.Function):
    """Slice copies with the opposite shift as gradient; autograd would repeat each copy over the whole tensor."""

    @staticmethod
    def forward(ctx, x_NCHW: Tensor, frames: int, after: int, before: int, direction: int) -> Tensor:
        ctx.rest = frames, after, before, direction
        first, second, same = _channels(after, before)
        ahead, behind = (first, second) if direction > 0 else (second, first)
        out_NCHW = torch.empty_like(x_NCHW)
        move(x_NCHW, out_NCHW, frames, ahead, behind)
        out_NCHW[:, same] = x_NCHW[:, same]
        return out_NCHW

    @staticmethod
    def backward(ctx, grad_NCHW: Tensor):
        *sizes, direction = ctx.rest
        return _CopyShift.apply(grad_NCHW, *sizes, -direction), None, None, None, None


class _WhereShift(torch.autograd.Function):
    """4-D elementwise operations and rolls only, so that a compiler keeps channels_last and fuses both passes."""

    @staticmethod
    def forward(ctx, x_NCHW: Tensor, frames: int, after: int, before: int, direction: int) -> Tensor:
        ctx.rest = frames, after, before, direction
        count, channels = x_NCHW.shape[:2]
        channel_1C11 = torch.arange(channels, device=x_NCHW.device).view(1, -1, 1, 1)
        frame_N111 = (torch.arange(count, device=x_NCHW.device) % frames).view(-1, 1, 1, 1)
        first, second = channel_1C11 < after, channel_1C11 < after + before
        source_NC11 = frame_N111 + torch.where(first, direction, torch.where(second, -direction, 0))
        rest_NCHW = torch.where(second, x_NCHW.roll(direction, 0), x_NCHW)
        moved_NCHW = torch.where(first, x_NCHW.roll(-direction, 0), rest_NCHW)
        return torch.where((source_NC11 >= 0) & (source_NC11 < frames), moved_NCHW, 0)

    @staticmethod
    def backward(ctx, grad_NCHW: Tensor):
        *sizes, direction = ctx.rest
        return _WhereShift.apply(grad_NCHW, *sizes, -direction), None, None, None, None
