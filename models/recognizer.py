"""TSM and TSN: a 2-D network applied to every frame of a clip, and its outputs averaged over the frames.

This module holds the consensus and the classifier; `backbones` decides which layers shift, `shift` implements it.

Shapes: B clips or videos, V views of a video, T frames, N = B * T, C channels, H W pixels, K classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.schema import Model
from models import casting, recompute
from models.backbones import build_parts

STAGES = ("layer1", "layer2", "layer3", "layer4", "features")  # parts of a backbone that are sequences of blocks


class Recognizer(nn.Module):
    """A TSM or TSN: clips_BTCHW -> logits_BK, or clips_BVTCHW -> logits_BVK; its state_dict keys are torchvision's.

    A TSN and a causal TSM accept any number of frames. Raises ValueError for inputs that are not 5-D or 6-D, and if a
    TSM gets another number of frames than it was built for.
    """

    def __init__(self, settings: Model):
        super().__init__()
        self.settings = settings
        parts = build_parts(settings)
        *self.trunk, self.head = parts  # names, in the order of application
        for name, part in parts.items():
            self.add_module(name, part)
        self.frozen_norms: list[nn.Module] = []
        self.frozen_parts: list[str] = []  # names of parts of the trunk
        self.recompute_blocks = False  # recompute activations in the backward pass, to save memory
        self._temporal_parts = [part for part in self.modules() if hasattr(part, "frames")]
        (classifier,) = (part for part in parts[self.head].modules() if isinstance(part, nn.Linear))
        nn.init.normal_(classifier.weight, std=settings.fc_std)
        nn.init.zeros_(classifier.bias)

    def forward(self, clips: Tensor) -> Tensor:
        if clips.ndim == 6:
            return self(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        if self.settings.consensus == "features":
            return self._classify(self._features(clips).mean(1))
        return self.frame_logits(clips).mean(1)

    def freeze_norms(self) -> None:
        """Freeze the statistics, weight and bias of all batch norms except the first.

        This is MIT's `partialbn`, for fine-tuning on few videos.
        """
        _, *self.frozen_norms = (part for part in self.modules() if isinstance(part, nn.BatchNorm2d))
        for norm in self.frozen_norms:
            norm.requires_grad_(False)
        self.train(self.training)

    def freeze(self, last: str) -> None:
        """Freeze the weights and statistics of the stages of a ResNet up to `last`, one of STAGES or `stem`."""
        first_stage = self.trunk.index("layer1")
        end = first_stage if last == "stem" else self.trunk.index(last) + 1
        self.frozen_parts = self.trunk[:end]
        for name in self.frozen_parts:
            getattr(self, name).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Recognizer":
        super().train(mode)
        for part in (*self.frozen_norms, *(getattr(self, name) for name in self.frozen_parts)):
            part.eval()
        return self

    def frame_logits(self, clips_BTCHW: Tensor) -> Tensor:
        """Return the logits_BTK of each frame; in a TSM they depend on the neighbouring frames, too."""
        return self._classify(self._features(clips_BTCHW))

    def _features(self, clips_BTCHW: Tensor) -> Tensor:
        """Return the features_BTC of each frame, averaged over H and W."""
        self._check(clips_BTCHW)
        for part in self._temporal_parts:
            part.frames = clips_BTCHW.shape[1]  # N = B * T alone does not tell T
        x_NCHW = clips_BTCHW.flatten(0, 1)  # a view: clips in NHWC memory are channels_last frames
        for name in self.trunk:
            part = getattr(self, name)
            trained = name in STAGES and name not in self.frozen_parts
            staged = trained and self.recompute_blocks and recompute.is_needed(self)
            x_NCHW = recompute.run_blocks(part, x_NCHW) if staged else casting.apply(part, x_NCHW)
        return spatial_mean(x_NCHW).unflatten(0, clips_BTCHW.shape[:2])

    def _classify(self, features: Tensor) -> Tensor:
        """Return the logits of features_BTC or features_BC; dropout is drawn for each vector separately."""
        dropped = F.dropout(features, float(self.settings.dropout), self.training)
        return getattr(self, self.head)(dropped)

    def _check(self, clips: Tensor) -> None:
        if clips.ndim != 5:
            raise ValueError(f"clips of shape {tuple(clips.shape)} are neither B T C H W nor B V T C H W")
        if not self.settings.any_frames and clips.shape[1] != self.settings.frames:
            raise ValueError(
                f"clips have {clips.shape[1]} frames, but this TSM shifts over {self.settings.frames}; "
                f"set model.frames={clips.shape[1]} or feed clips of {self.settings.frames} frames"
            )


def spatial_mean(x_NCHW: Tensor) -> Tensor:
    """Return the mean_NC over H and W. Its gradient has the memory layout of x_NCHW."""
    return _SpatialMean.apply(x_NCHW) if x_NCHW.requires_grad else x_NCHW.mean((2, 3))


class _SpatialMean(torch.autograd.Function):
    """A mean with a custom gradient, because autograd's is always NCHW, and the layers below would read it strided."""

    @staticmethod
    def forward(ctx, x_NCHW: Tensor) -> Tensor:
        ctx.shape, ctx.nhwc = x_NCHW.shape, x_NCHW.is_contiguous(memory_format=torch.channels_last)
        return x_NCHW.mean((2, 3))

    @staticmethod
    def backward(ctx, grad_NC: Tensor) -> Tensor:
        *_, height, width = ctx.shape
        grad_NCHW = (grad_NC / (height * width))[:, :, None, None].expand(ctx.shape)
        layout = torch.channels_last if ctx.nhwc else torch.contiguous_format
        return grad_NCHW.contiguous(memory_format=layout)


def build_model(settings: Model) -> Recognizer:
    """Build the network of a recipe with random weights; `load_pretrained` loads others.

    Raises ConfigError if the network does not support this form of the shift, or if no channel would be shifted.
    """
    return Recognizer(settings)
