"""A network in the form that is exported: fp32 or pixels in, logits out, in one precision inside, norms folded.

Shapes: N clips, T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn.utils.fusion import fuse_conv_bn_weights

from configs.schema import Clip, Config
from engine.card import Precision
from models import Recognizer

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class ClipNetwork(nn.Module):
    """clip -> logits_NK: a copy of `model` that takes fp32 clips_NTCHW, or uint8 clips_NTHWC as decoders give them."""

    inputs, outputs = ("clip",), ("logits",)

    def __init__(self, model: Recognizer, clip: Clip, precision: Precision, uint8: bool):
        super().__init__()
        self.dtype, self.uint8 = DTYPES[precision], uint8
        self.model = fold_norms(copy.deepcopy(model)).to(self.dtype).requires_grad_(False)
        self.register_buffer("mean_C11", 255 * torch.tensor(clip.mean).view(-1, 1, 1))
        self.register_buffer("std_C11", 255 * torch.tensor(clip.std).view(-1, 1, 1))

    def example(self, config: Config) -> Tensor:
        """A blank input for two clips as the settings have them in evaluation."""
        shape_NTHWC = (2, config.eval_frames, config.eval_size, config.eval_size, 3)
        if self.uint8:
            return torch.zeros(shape_NTHWC, dtype=torch.uint8)
        return torch.zeros(shape_NTHWC).permute(0, 1, 4, 2, 3).contiguous()

    def forward(self, clip: Tensor) -> Tensor:
        if self.uint8:
            clip = (clip.permute(0, 1, 4, 2, 3).float() - self.mean_C11) / self.std_C11
        return self.model(clip.to(self.dtype)).float()


def fold_norms(model: nn.Module) -> nn.Module:
    """Scale each convolution as the batch norm after it would, and take the norm away.

    To be done in fp32: half precision then rounds one weight, not a weight, two statistics and two factors.
    """
    for block in model.modules():
        for (_, conv), (name, norm) in pairwise(list(block.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
                setattr(block, name, nn.Identity())
    return model


def trace(network: nn.Module, *examples: Tensor) -> ExportedProgram:
    """The network as a graph for any batch. All other sizes are those of `examples`, whose batch is not 1."""
    return torch.export.export(network.eval(), examples, dynamic_shapes=[{0: Dim("N")} for _ in examples])
