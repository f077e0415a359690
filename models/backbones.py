"""The 2-D networks: torchvision's, slimmer ones of the same shape, and where MIT's TSM shifts and attends inside them.

A network is handed over as its parts under torchvision's names, so that state_dict keys are torchvision's; a non-local
block is the `nl` of the block that it follows, as in MIT's checkpoints: `layer2.0.nl.theta.weight` (whose other keys
say `layer2.0.block.conv1.weight` then). Knows nothing of clips, of consensus over frames, or of weights.
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import MobileNetV2, ResNet
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck

from configs import ConfigError
from configs.schema import Model
from models.shift.conv import FORMS, ShiftedConv2d, fork

DEEP = 23  # blocks: a network with a stage this long has the shift in every second block of all its stages (MIT)
ATTENDING = {"layer2": (0, 2), "layer3": (0, 2, 4)}  # the blocks that MIT's non-local blocks follow


class ForkedBottleneck(Bottleneck):
    """torchvision's, but that the first convolution hands its input on to the identity path: where the shift is folded,
    the gradients of both paths are then added in one pass.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW, x_NCHW = fork(self.conv1, x_NCHW)
        y_NCHW = self.conv2(self.relu(self.bn1(y_NCHW)))
        y_NCHW = self.bn3(self.conv3(self.relu(self.bn2(y_NCHW))))
        y_NCHW += x_NCHW if self.downsample is None else self.downsample(x_NCHW)
        return self.relu(y_NCHW)


RESNETS = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (ForkedBottleneck, [3, 4, 6, 3]),
    "resnet101": (ForkedBottleneck, [3, 4, 23, 3]),
}


class SlimResNet(ResNet):
    """torchvision's ResNet with `width` channels in its stem instead of 64, and all others in proportion."""

    def __init__(self, block: type[BasicBlock | Bottleneck], layers: list[int], width: int, num_classes: int):
        self.width = width  # first, because the parent's __init__ calls _make_layer
        super().__init__(block, layers)
        self.fc = nn.Linear(8 * width * block.expansion, num_classes)

    def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
        if planes == 64:  # the first stage, and the parent has just made a stem of 64 channels for it
            self.inplanes = self.width
            self.conv1 = nn.Conv2d(3, self.width, kernel_size=7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(self.width)
        return super()._make_layer(block, planes * self.width // 64, blocks, stride, dilate)


def build_parts(settings: Model) -> dict[str, nn.Module]:
    """The network's parts in the order they are applied, by torchvision's names; the last one is the classifier.

    Random weights are torchvision's, which for convolutions is He's initialisation by fan-out. The first parts map
    frames_NCHW to features_NCHW that are still to be averaged over H and W.
    """
    if settings.backbone == "mobilenet_v2":
        net = MobileNetV2(settings.num_classes, dropout=0)  # dropout is the recognizer's
    else:
        net = SlimResNet(*RESNETS[settings.backbone], settings.width, settings.num_classes)
    if settings.name == "tsm":
        _shift_inside(net, settings)
    if settings.non_local:
        _attend_inside(net, settings.frames)
    return {name: part for name, part in net.named_children() if name != "avgpool"}


def shift_step(backbone: str, shift_every: int) -> int:
    """In every how many-th block of a stage model.shift_every has the shift: what its 0 stands for, too."""
    _, blocks = RESNETS.get(backbone, (None, []))
    return shift_every or (2 if DEEP in blocks else 1)


def _shift_inside(net: nn.Module, settings: Model) -> None:
    """Let the first convolution of residual branches read the shifted input; the identity paths stay unshifted."""
    for parent, name in list(_shifted_places(net, shift_step(settings.backbone, settings.shift_every))):
        conv = parent.get_submodule(name)
        fold = conv.in_channels // settings.shift_div
        if not fold:
            raise ConfigError(
                f"model.shift_div: 1/{settings.shift_div} of {conv.in_channels} channels is none, so nothing would be "
                f"shifted; use at most {conv.in_channels}"
            )
        after = 0 if settings.causal else fold
        shifted = ShiftedConv2d(conv, settings.frames, after, fold, FORMS[settings.shift])
        if settings.shift == "folded" and not shifted.foldable:
            raise ConfigError(
                f"model.shift: folded: {settings.backbone} shifts before 3x3 convolutions, and only 1x1 ones can take "
                "the shift in; use auto"
            )
        parent.set_submodule(name, shifted)


def _shifted_places(net: nn.Module, every: int) -> Iterator[tuple[nn.Module, str]]:
    """Where MIT's TSM shifts ("blockres"), as a block and the name of the convolution inside it."""
    if isinstance(net, ResNet):
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            yield from ((block, "conv1") for block in stage[::every])
    else:
        for block in net.features:
            if isinstance(block, InvertedResidual) and block.use_res_connect:
                yield block, "conv.0.0"


def _attend_inside(net: ResNet, frames: int) -> None:
    """Let a non-local block follow where MIT has one. MIT's code drops the blocks behind layer3.5; here they stay."""
    for stage, numbers in ATTENDING.items():
        for number in numbers:
            block = getattr(net, stage)[number]
            block.nl = NonLocal(block.bn3.num_features, frames)
            block.register_forward_hook(_then_attend)


def _then_attend(block: Bottleneck, inputs: tuple, out_NCHW: Tensor) -> Tensor:
    """A hook and no wrapper, so that what is in the block keeps its names."""
    return block.nl(out_NCHW)


class NonLocal(nn.Module):
    """features_NCHW -> features_NCHW of clips of `frames` frames; a new block changes nothing.

    MIT's block, after Wang et al., arXiv 1711.07971: embedded Gaussian, half of the channels inside, and what is taken
    from pooled 2x2. Its parameters have MIT's names, and MIT's shapes without the last dimension: convolutions of 1x1x1
    need not know that frames belong together.
    """

    def __init__(self, channels: int, frames: int):
        super().__init__()
        inner = channels // 2
        self.frames = frames
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.MaxPool2d(2))
        self.g = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.MaxPool2d(2))
        self.W = nn.Sequential(nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels))
        nn.init.zeros_(self.W[1].weight)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        theta_B1LC, phi_B1LC, g_B1LC = map(self._positions, (self.theta(x_NCHW), self.phi(x_NCHW), self.g(x_NCHW)))
        # Weights are softmax(theta phi^T), not divided by sqrt(C); never all in memory at once where a kernel can.
        taken_B1LC = F.scaled_dot_product_attention(theta_B1LC, phi_B1LC, g_B1LC, scale=1.0)
        # Not len(x_NCHW), which would make an exported network one for that many clips.
        taken_NCHW = taken_B1LC.reshape(x_NCHW.shape[0], *x_NCHW.shape[2:], -1).permute(0, 3, 1, 2)
        return x_NCHW + self.W(taken_NCHW)

    def _positions(self, x_NCHW: Tensor) -> Tensor:
        """The positions of each clip in a row, [B, 1, L, C]: a view of channels_last frames."""
        x_BTHWC = x_NCHW.permute(0, 2, 3, 1).unflatten(0, (-1, self.frames))
        return x_BTHWC.flatten(1, 3).unsqueeze(1)
