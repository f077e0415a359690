"""TSM ResNet-50 of other projects with our weights: clips_BTCHW -> logits_BK.

MIT's is written here with the same operations in the same order; mmaction2's is imported if it is installed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from models import Recognizer


class CopyingShift(nn.Module):
    """MIT TSM's shift before a convolution: three slices of the clip are assigned into zeros."""

    def __init__(self, net: nn.Conv2d, frames: int, fold: int):
        super().__init__()
        self.net, self.frames, self.fold = net, frames, fold

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_BTCHW = x_NCHW.view(-1, self.frames, *x_NCHW.shape[1:])
        fold, out_BTCHW = self.fold, torch.zeros_like(x_BTCHW)
        out_BTCHW[:, :-1, :fold] = x_BTCHW[:, 1:, :fold]
        out_BTCHW[:, 1:, fold : 2 * fold] = x_BTCHW[:, :-1, fold : 2 * fold]
        out_BTCHW[:, :, 2 * fold :] = x_BTCHW[:, :, 2 * fold :]
        return self.net(out_BTCHW.view(x_NCHW.shape))


class MitTsm(nn.Module):
    """MIT TSM's network: a shift before every bottleneck's first convolution, logits averaged over the frames."""

    def __init__(self, ours: Recognizer):
        super().__init__()
        settings = ours.settings
        self.base = resnet50(num_classes=settings.num_classes)
        self.base.load_state_dict(ours.state_dict())
        self.base.fc = nn.Sequential(nn.Dropout(settings.dropout), self.base.fc)
        for stage in (self.base.layer1, self.base.layer2, self.base.layer3, self.base.layer4):
            for block in stage:
                fold = block.conv1.in_channels // settings.shift_div
                block.conv1 = CopyingShift(block.conv1, settings.frames, fold)

    def forward(self, clips_BTCHW: Tensor) -> Tensor:
        logits_NK = self.base(clips_BTCHW.flatten(0, 1))
        return logits_NK.unflatten(0, clips_BTCHW.shape[:2]).mean(1)


class MmactionTsm(nn.Module):
    """mmaction2's backbone and head. ImportError if it is not installed."""

    def __init__(self, ours: Recognizer):
        super().__init__()
        from mmaction.models.backbones.resnet_tsm import ResNetTSM
        from mmaction.models.heads.tsm_head import TSMHead

        settings = ours.settings
        self.frames = settings.frames
        self.backbone = ResNetTSM(depth=50, norm_eval=False, shift_div=settings.shift_div, num_segments=settings.frames)
        self.cls_head = TSMHead(
            num_classes=settings.num_classes,
            in_channels=2048,
            num_segments=settings.frames,
            dropout_ratio=settings.dropout,
        )
        weights = ours.state_dict()
        self.load_state_dict({name: weights[_torchvisions(name)] for name in self.state_dict()})

    def forward(self, clips_BTCHW: Tensor) -> Tensor:
        return self.cls_head(self.backbone(clips_BTCHW.flatten(0, 1)), num_segs=self.frames)


def _torchvisions(name: str) -> str:
    """Return torchvision's name for a tensor of mmaction2: `layer1.0.conv1.bn.weight` is `layer1.0.bn1.weight`."""
    name = name.removeprefix("backbone.").replace("cls_head.fc_cls", "fc").replace(".conv.net.", ".conv.")
    for number in "123":
        name = name.replace(f"conv{number}.conv.", f"conv{number}.").replace(f"conv{number}.bn.", f"bn{number}.")
    return name.replace("downsample.conv.", "downsample.0.").replace("downsample.bn.", "downsample.1.")
