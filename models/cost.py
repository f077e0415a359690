"""Count the parameters and the multiply-adds per clip of a network."""

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from models.recognizer import Recognizer


def count_parameters(model: Recognizer) -> int:
    """Count the parameters, trained or frozen; buffers such as running statistics are not counted."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: Recognizer, size: int) -> int:
    """Count the multiply-adds of a forward pass over one clip of `size` x `size` px.

    Counts convolutions and matrix products. Runs on the meta device, so it needs no memory for activations.
    """
    shapes_only = copy.deepcopy(model).to("meta").eval()
    clip_1TCHW = torch.empty(1, model.settings.frames, 3, size, size, device="meta")
    folded = {torch.ops.tsm.shift_conv1x1: _folded_flops}
    with FlopCounterMode(display=False, custom_mapping=folded) as counter, torch.no_grad():
        shapes_only(clip_1TCHW)
    return counter.get_total_flops() // 2  # a multiply-add counts as two operations


def _folded_flops(x_shape: list[int], weight_shape: list[int], *rest, out_shape: list[int]) -> int:
    """Count a convolution with a folded shift as the plain convolution."""
    return conv_flop_count(x_shape, weight_shape, out_shape)


def describe(model: Recognizer, size: int = 224) -> str:
    """Return one line for the start of a run: the network, its parameters, and the work per clip of `size` px."""
    settings = model.settings
    kind = "causal tsm" if settings.causal else settings.name
    slim = f", width {settings.width}" if settings.width != 64 else ""
    attending = ", non-local" if settings.non_local else ""
    return (
        f"{kind} {settings.backbone}{slim}{attending}: {count_parameters(model) / 1e6:.1f} M parameters, "
        f"{count_macs(model, size) / 1e9:.1f} GMAC per clip of {settings.frames} frames at {size} px"
    )
