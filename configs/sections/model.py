"""Settings of the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from omegaconf import MISSING

from configs.checks import Problem, check_fractions, check_minimums

Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet50_vd", "resnet101_vd", "mobilenet_v2"]

ZOO = "zoo:"  # beginning of the names of published weights
MOST_CLASSES = 32_768  # their confusion matrix takes 8 GiB


@dataclass(frozen=True)
class Model:
    """The network."""

    name: Literal["tsm", "tsn"] = "tsm"
    """TSM shifts channels in time; TSN processes frames independently."""
    backbone: Backbone = "resnet50"
    """`_vd`: the ResNet-D of PP-TSM and PP-TSN, with three convolutions in its stem and pooling in its skip
    connections."""
    leaky_slope: float = 0.0
    """Slope of the ResNet's activations below zero; 0: ReLU. PP-TSM has 0.01."""
    width: int = 64
    """Channels of the ResNet's stem; 64 in the published networks, fewer for demos and tests."""
    num_classes: int = MISSING
    """Number of classes; 0: counted in data.train (train.py only)."""
    frames: int = 8
    """T: frames per clip, in training and (unless the eval section overrides it) in evaluation."""
    shift_div: int = 8
    """1/shift_div of the channels of a shifted input come from the next frame, and as many from the previous one."""
    shift_every: int = 0
    """Shift in every nth block of a stage; 0: as MIT, in every block, or in every second block if a stage has 23 or
    more.
    """
    causal: bool = False
    """Shift from the previous frame only, for streams (name: tsm)."""
    non_local: bool = False
    """Add MIT's five non-local blocks: attention over all positions of all frames (resnet50, resnet101)."""
    dropout: float | Literal["auto"] = 0.5
    """Dropout before the classifier; `auto`: chosen by the initial weights (train.py only)."""
    consensus: Literal["logits", "features"] = "logits"
    """Average over frames: logits after the classifier (TSM, MIT's TSN), or features before dropout (PaddleVideo's
    TSN)."""
    fc_std: float | Literal["auto"] = 0.001
    """Standard deviation of the classifier's initial weights; `auto`: chosen by the other initial weights (train.py
    only).
    """
    pretrained: str = "imagenet"
    """Initial weights: `imagenet` or `imagenet_v2` (torchvision's V1 or V2), `none`, `zoo:NAME` (docs/zoo.md), or a
    file (docs/weights.md).
    """
    shift: Literal["auto", "reference", "where", "folded"] = "auto"
    """Implementation of the shift: `auto` is the fastest measured one; `folded` is part of the following
    convolution.
    """

    @property
    def any_frames(self) -> bool:
        """Return True if clips may have any number of frames, not only `frames`."""
        return self.name == "tsn" or self.causal

    def problems(self) -> Iterator[Problem]:
        yield from check_minimums(self, width=8, num_classes=0, frames=1, shift_div=2, shift_every=0, fc_std=0)
        yield from check_fractions(self, "leaky_slope")
        yield from check_fractions(self, "dropout", below_one=True)
        if self.num_classes > MOST_CLASSES:
            yield "num_classes", f"{self.num_classes} is above {MOST_CLASSES}; labels are numbers from 0, without gaps"
        if self.num_classes == 1:
            yield "num_classes", "1 is below 2"
        if self.causal and self.name != "tsm":
            yield "causal", f"a {self.name} processes frames independently, so it has no direction; set model.name=tsm"
        if self.backbone == "mobilenet_v2" and self.shift_every:
            yield "shift_every", "only ResNets have stages to count blocks in; leave it at 0 for mobilenet_v2"
        if self.non_local and self.backbone not in ("resnet50", "resnet101"):
            yield "non_local", f"not supported for {self.backbone}; use resnet50 or resnet101"
        elif self.non_local and self.causal:
            yield "non_local", "uses future frames, which model.causal=true excludes; set one to false"
        if self.backbone == "mobilenet_v2" and self.width != 64:
            yield "width", "only ResNets support other widths; leave it at 64 for mobilenet_v2"
        elif self.backbone == "mobilenet_v2" and self.leaky_slope:
            yield "leaky_slope", "only ResNets support leaky activations; leave it at 0 for mobilenet_v2"
        if self.pretrained in ("imagenet", "imagenet_v2") and self.backbone.endswith("_vd"):
            remedy = "name a file with PaddlePaddle's, or use `none` (docs/weights.md)"
            yield "pretrained", f"torchvision has no ImageNet weights of a {self.backbone}; {remedy}"
        elif self.pretrained in ("imagenet", "imagenet_v2") and self.width != 64:
            yield "pretrained", f"ImageNet weights do not fit model.width={self.width}; use `none`, or a width of 64"
