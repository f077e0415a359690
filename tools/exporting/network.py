"""Networks prepared for export: fp32 or pixel inputs, logits as output, one internal precision, batch norms folded.

Shapes: N clips or streams, T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from configs import Config
from engine.inference.metadata import Precision
from models import Recognizer, Streaming

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class ClipNetwork(nn.Module):
    """A copy of `model` as a function: clip -> logits_NK.

    A clip is normalised pictures_NTCHW in fp32, or pixels_NTHWC in uint8. `examples` are blank inputs for two clips of
    the length and size used in evaluation.
    """

    inputs, outputs = ("clip",), ("logits",)

    def __init__(self, model: Recognizer, config: Config, precision: Precision, pixels: bool):
        super().__init__()
        self.dtype, self.pixels = DTYPES[precision], pixels
        self.network = fold_norms(copy.deepcopy(model).eval()).to(self.dtype).requires_grad_(False)
        self.register_buffer("mean_C11", 255 * torch.tensor(config.clip.mean).view(-1, 1, 1))
        self.register_buffer("std_C11", 255 * torch.tensor(config.clip.std).view(-1, 1, 1))
        self.examples = (self._blank(2, config.eval_frames, config.eval_size),)

    def forward(self, clip: Tensor) -> Tensor:
        return self.network(self._normalised(clip)).float()

    def _normalised(self, pictures: Tensor) -> Tensor:
        if self.pixels:
            pictures = (pictures.movedim(-1, -3).float() - self.mean_C11) / self.std_C11
        return pictures.to(self.dtype)

    def _blank(self, *sizes: int) -> Tensor:
        *outer, size = sizes
        if self.pixels:
            return torch.zeros(*outer, size, size, 3, dtype=torch.uint8)
        return torch.zeros(*outer, 3, size, size)


class StreamNetwork(ClipNetwork):
    """A copy of a causal `model` as a function: (frame, cache_0, ...) -> (logits_NK, next_cache_0, ...).

    A frame is a picture_NCHW or pixels_NHWC; caches are fp32. Raises ConfigError for a network that is not causal.
    """

    def __init__(self, model: Recognizer, config: Config, precision: Precision, pixels: bool):
        super().__init__(model, config, precision, pixels)
        self.network = Streaming(self.network)
        caches = [cache.contiguous() for cache in Streaming(model).initial_caches(2, config.eval_size)]
        names = [f"cache_{index}" for index in range(len(caches))]
        self.inputs, self.outputs = ("frame", *names), ("logits", *(f"next_{name}" for name in names))
        self.examples = (self._blank(2, config.eval_size), *caches)

    def forward(self, frame: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(self._normalised(frame), *(cache.to(self.dtype) for cache in caches))
        return tuple(output.float() for output in outputs)


def fold_norms(model: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution before it, in place.

    Call it in fp32, so that half precision rounds only the folded weight.
    """
    for block in model.modules():
        for (_, conv), (name, norm) in pairwise(list(block.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
                setattr(block, name, nn.Identity())
    return model
