"""Weights and inputs drawn from names and seeds alone; the reference numbers in tests/data were made with them."""

import math
import zlib

import numpy as np
import torch
from torch import Tensor, nn


def fill_by_name(model: nn.Module) -> None:
    """Draw every weight from its own torchvision name; the last norm of a bottleneck small, so nothing grows."""
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        draw = np.random.RandomState(zlib.crc32(name.encode()))
        shape = tuple(tensor.shape)
        if tensor.ndim == 4:
            values = draw.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
        elif name.startswith("fc."):
            values = draw.standard_normal(shape) * 0.02
        elif name.endswith((".bias", ".running_mean")):
            values = draw.standard_normal(shape) * 0.05
        else:
            values = draw.uniform(0.5, 1.5, shape) * (0.25 if name.endswith("bn3.weight") else 1)
        tensor.copy_(torch.from_numpy(values))


def make_clips(seed: int, clips: int, frames: int) -> Tensor:
    """Return clips_BTCHW of 224 px: coarse noise that differs from frame to frame, and a little fine noise."""
    draw = np.random.RandomState(seed)
    coarse = draw.standard_normal((clips, frames, 3, 7, 7)).repeat(32, axis=3).repeat(32, axis=4)
    fine = draw.standard_normal((clips, frames, 3, 224, 224))
    return torch.from_numpy((coarse + 0.25 * fine).astype(np.float32))
