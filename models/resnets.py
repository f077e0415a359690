"""The ResNets: torchvision's, narrower ones, and ResNet-D, which PaddlePaddle calls ResNet-vd.

Parameters have torchvision's names, those of ResNet-D timm's. The only trace of the shift in this module is that a
bottleneck's first convolution may be a shifting one.
"""

from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from models.shift.conv import conv_with_skip


class ShiftableBottleneck(Bottleneck):
    """torchvision's Bottleneck, except that the skip connection reads the input through the first convolution.

    A folded shift then adds the gradients of both paths in one pass.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW, x_NCHW = conv_with_skip(self.conv1, x_NCHW)
        y_NCHW = self.conv2(self.relu(self.bn1(y_NCHW)))
        y_NCHW = self.bn3(self.conv3(self.relu(self.bn2(y_NCHW))))
        y_NCHW += x_NCHW if self.downsample is None else self.downsample(x_NCHW)
        return self.relu(y_NCHW)


class SlimResNet(ResNet):
    """torchvision's ResNet with `width` channels in its stem instead of 64, and all other layers in proportion."""

    def __init__(self, block: type[BasicBlock | Bottleneck], layers: list[int], width: int, num_classes: int):
        self.width = width  # set first: the parent's __init__ calls _make_layer
        super().__init__(block, layers)
        self.fc = nn.Linear(8 * width * block.expansion, num_classes)

    def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
        if planes == 64:  # the first stage: replace the stem of 64 channels that the parent has created
            self.inplanes = self.width
            self.conv1 = self._stem()
            self.bn1 = nn.BatchNorm2d(self.width)
        return super()._make_layer(block, planes * self.width // 64, blocks, stride, dilate)

    def _stem(self) -> nn.Module:
        return nn.Conv2d(3, self.width, kernel_size=7, stride=2, padding=3, bias=False)


class ResNetD(SlimResNet):
    """ResNet-D: a stem of three 3x3 convolutions, and average pooling in the downsampling skip connections.

    For bottleneck blocks only. Source: He et al., arXiv 1812.01187.
    """

    def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
        stage = super()._make_layer(block, planes, blocks, stride, dilate)
        conv, norm = stage[0].downsample
        pool = nn.AvgPool2d(2, stride=2, ceil_mode=True) if stride == 2 else nn.Identity()
        stage[0].downsample = nn.Sequential(pool, _conv(conv.in_channels, conv.out_channels, 1), norm)
        return stage

    def _stem(self) -> nn.Module:
        half = self.width // 2
        return nn.Sequential(
            _conv(3, half, 3, stride=2),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            _conv(half, half, 3),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            _conv(half, self.width, 3),
        )


def _conv(channels: int, filters: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, filters, size, stride=stride, padding=size // 2, bias=False)


RESNETS = {
    "resnet18": (SlimResNet, BasicBlock, [2, 2, 2, 2]),
    "resnet34": (SlimResNet, BasicBlock, [3, 4, 6, 3]),
    "resnet50": (SlimResNet, ShiftableBottleneck, [3, 4, 6, 3]),
    "resnet101": (SlimResNet, ShiftableBottleneck, [3, 4, 23, 3]),
    "resnet50_vd": (ResNetD, ShiftableBottleneck, [3, 4, 6, 3]),
    "resnet101_vd": (ResNetD, ShiftableBottleneck, [3, 4, 23, 3]),
}


def build_resnet(backbone: str, width: int, num_classes: int) -> ResNet:
    """Build a ResNet of `RESNETS` with random weights: He initialisation with fan-out, as in torchvision."""
    kind, block, layers = RESNETS[backbone]
    return kind(block, layers, width, num_classes)


def use_leaky_relus(net: nn.Module, slope: float) -> None:
    """Replace every ReLU of a network by a leaky one."""
    for name, part in list(net.named_modules()):
        if isinstance(part, nn.ReLU):
            net.set_submodule(name, nn.LeakyReLU(slope, inplace=True))
