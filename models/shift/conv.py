"""A convolution that shifts its input in time, and the implementations that it chooses from.

The shift alone is in `forms`; the shift folded into a 1x1 convolution is in `folded`.

Shapes: N = B * T frames, C channels, H W pixels, O output channels.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from models.shift import folded, measured
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
        """Return True for a plain matrix product (1x1, no stride, padding or groups), into which the shift can
        be folded.
        """
        return self.kernel_size == self.stride == (1, 1) and self.padding == (0, 0) and self.groups == 1

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NOHW, _ = self.form(self, x_NCHW)
        return y_NOHW

    def forward_with_skip(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return y_NOHW, and x_NCHW for the skip connection to read.

        The gradient of the returned x_NCHW is added in the same pass that writes the convolution's input gradient.
        """
        return self.form(self, x_NCHW)

    def convolve(self, x_NCHW: Tensor) -> Tensor:
        """Apply the convolution alone, without the shift."""
        return super().forward(x_NCHW)

    def folds(self, device: torch.device, dtype: torch.dtype, compiled: bool) -> bool:
        """Return True if the form `auto` folds the shift into this convolution."""
        return self.foldable and measured.is_faster(device, dtype, self.in_channels, self.out_channels, compiled)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, frames={self.frames}, after={self.after}, before={self.before}"


MEASURE = "`python benchmarks/shift.py layers --device gpu --keep`"
Form = Callable[[ShiftedConv2d, Tensor], tuple[Tensor, Tensor]]  # x_NCHW -> y_NOHW, x_NCHW


def conv_with_skip(conv: nn.Conv2d, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output of a convolution, shifting or not, and its input for the skip connection."""
    return conv.forward_with_skip(x_NCHW) if isinstance(conv, ShiftedConv2d) else (conv(x_NCHW), x_NCHW)


def shift_then_conv(shift: Shift, conv: ShiftedConv2d, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Shift into a copy of the input, then convolve."""
    return conv.convolve(shift(x_NCHW, conv.frames, conv.after, conv.before)), x_NCHW


def folded_conv(conv: ShiftedConv2d, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Shift and convolve in one operation. The convolution must be foldable."""
    return folded.shift_conv1x1_with_skip(x_NCHW, conv.weight, conv.bias, conv.frames, conv.after, conv.before)


def auto_conv(conv: ShiftedConv2d, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Use the form that was measured as faster on this device, or a form that can be exported."""
    compiled = torch.compiler.is_compiling()
    if not exporting() and conv.folds(x_NCHW.device, folded.compute_type(x_NCHW), compiled):
        return folded_conv(conv, x_NCHW)
    return shift_then_conv(shift_auto, conv, x_NCHW)


FORMS: dict[str, Form] = {
    "auto": auto_conv,
    "reference": partial(shift_then_conv, temporal_shift),
    "where": partial(shift_then_conv, shift_where),
    "folded": folded_conv,
}


def describe_shift(model: nn.Module, device: torch.device, dtype: torch.dtype, compiled: bool) -> str:
    """Return one line for the start of a run: the number of shifting layers, and how many of them fold the shift in.

    On a GPU without measurements, the line says so and names the command that measures it.
    """
    layers = [part for part in model.modules() if isinstance(part, ShiftedConv2d)]
    if not layers:
        return "no temporal shift"
    count = sum(is_folded(layer, device, dtype, compiled) for layer in layers)
    copied = len(layers) - count
    line = f"temporal shift in {len(layers)} conv layers: {count} folded into the convolution, {copied} copied"
    if any(layer.form is auto_conv for layer in layers) and device.type == "cuda":
        if measured_on := measured.source(device, dtype):
            return f"{line}, as measured on {measured_on}"
        line += f", by count, not measured; {MEASURE} measures which is faster on this GPU"
    return line


def is_folded(layer: ShiftedConv2d, device: torch.device, dtype: torch.dtype, compiled: bool) -> bool:
    """Return True if this layer computes the shift and its convolution in one operation."""
    return layer.form is folded_conv or (layer.form is auto_conv and layer.folds(device, dtype, compiled))
