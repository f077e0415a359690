"""The convolution that shifts its own input, and the ways that it can do so.

Knows nothing of networks; how a shift is done is `shift`'s affair, and `fold`'s where it is done inside a convolution.

Shapes: N = B * T frames, C channels, H W pixels.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from models.shift import folded as fold
from models.shift import measured
from models.shift.forms import Shift, exporting, shift_auto, shift_where, temporal_shift


class ShiftedConv2d(nn.Conv2d):
    """A convolution over the temporally shifted input; its parameters are those of `conv`, under the same names."""

    def __init__(self, conv: nn.Conv2d, frames: int, after: int, before: int, form: "Form"):
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        self.load_state_dict(conv.state_dict())
        self.frames, self.after, self.before, self.form = frames, after, before, form

    @property
    def foldable(self) -> bool:
        """Whether it is a plain matrix product, into which the shift can be folded."""
        return self.kernel_size == self.stride == (1, 1) and self.padding == (0, 0) and self.groups == 1

    def forward(self, x_NCHW: Tensor, fork: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """y_NOHW; with `fork` also x_NCHW, for who else reads it: its gradient is then added where ours is made."""
        y_NOHW, x_NCHW = self.form(self, x_NCHW)
        return (y_NOHW, x_NCHW) if fork else y_NOHW

    def convolve(self, x_NCHW: Tensor) -> Tensor:
        """The convolution alone, for a form to use on what it has shifted."""
        return super().forward(x_NCHW)

    def folds(self, device: torch.device, dtype: torch.dtype, compiled: bool) -> bool:
        """Whether the form `auto` does the shift inside the convolution."""
        return self.foldable and measured.is_faster(device, dtype, self.in_channels, self.out_channels, compiled)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, frames={self.frames}, after={self.after}, before={self.before}"


MEASURE = "`python benchmarks/shift.py layers --device gpu --keep`"
Form = Callable[[ShiftedConv2d, Tensor], tuple[Tensor, Tensor]]  # x_NCHW -> y_NOHW, x_NCHW


def fork(conv: nn.Conv2d, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """What a convolution, shifting or not, makes of x_NCHW; and x_NCHW for the path beside it."""
    return conv(x_NCHW, fork=True) if isinstance(conv, ShiftedConv2d) else (conv(x_NCHW), x_NCHW)


def beside(shift: Shift, conv: ShiftedConv2d, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """First the shift, then the convolution."""
    return conv.convolve(shift(x_NCHW, conv.frames, conv.after, conv.before)), x_NCHW


def inside(conv: ShiftedConv2d, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Both at once. For convolutions that are foldable."""
    return fold.fork_shift_conv1x1(x_NCHW, conv.weight, conv.bias, conv.frames, conv.after, conv.before)


def automatic(conv: ShiftedConv2d, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The form that was measured to be fast here, or that can be exported."""
    compiled = torch.compiler.is_compiling()
    if not exporting() and conv.folds(x_NCHW.device, fold.compute_type(x_NCHW), compiled):
        return inside(conv, x_NCHW)
    return beside(shift_auto, conv, x_NCHW)


FORMS: dict[str, Form] = {
    "auto": automatic,
    "reference": partial(beside, temporal_shift),
    "where": partial(beside, shift_where),
    "folded": inside,
}


def describe_shift(model: nn.Module, device: torch.device, dtype: torch.dtype, compiled: bool) -> str:
    """One line for the start of a run: how many convolutions of `model` shift, and in how many of them it is folded.

    Of a GPU that was never measured, so that `auto` folds nothing, it says how to measure it.
    """
    shifted = [part for part in model.modules() if isinstance(part, ShiftedConv2d)]
    if not shifted:
        return "no shift"
    folded = sum(
        part.form is inside or (part.form is automatic and part.folds(device, dtype, compiled)) for part in shifted
    )
    if folded == 0:
        unknown = any(part.form is automatic for part in shifted) and not measured.knows(device, dtype)
        advice = f"; whether folding is faster on this GPU says {MEASURE}" if unknown and device.type == "cuda" else ""
        return f"{len(shifted)} convolutions shift, each by a copy before it{advice}"
    if folded == len(shifted):
        return f"{len(shifted)} convolutions shift, all folded: nothing is copied"
    return f"{len(shifted)} convolutions shift: {folded} folded, {len(shifted) - folded} by a copy before it"
