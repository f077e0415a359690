"""What a network costs: parameters and multiply-adds of one clip. Counts, not times."""

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from models.recognizer import Recognizer


def count_parameters(model: Recognizer) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: Recognizer, size: int) -> int:
    """Multiply-adds of a forward pass over one clip of `size` px squares: convolutions and the classifier.

    Runs on shapes alone, so it takes no memory, no device and next to no time.
    """
    shapes_only = copy.deepcopy(model).to("meta").eval()
    clip_1TCHW = torch.empty(1, model.settings.frames, 3, size, size, device="meta")
    folded = {torch.ops.tsm.shift_conv1x1: _folded_flops}
    with FlopCounterMode(display=False, custom_mapping=folded) as counter, torch.no_grad():
        shapes_only(clip_1TCHW)
    return counter.get_total_flops() // 2  # it counts a multiplication and an addition as two


def _folded_flops(x_shape: list[int], weight_shape: list[int], *rest, out_shape: list[int]) -> int:
    """Those of the convolution that the shift is folded into."""
    return conv_flop_count(x_shape, weight_shape, out_shape)


def describe(model: Recognizer, size: int = 224) -> str:
    """One line for the start of a run: which network, how large, how much work a clip of `size` px is."""
    settings = model.settings
    kind = "causal tsm" if settings.causal else settings.name
    slim = f", width {settings.width}" if settings.width != 64 else ""
    attending = ", non-local" if settings.non_local else ""
    return (
        f"{kind} {settings.backbone}{slim}{attending}: {count_parameters(model) / 1e6:.1f} M parameters, "
        f"{count_macs(model, size) / 1e9:.1f} GMAC per clip of {settings.frames} frames at {size} px"
    )
