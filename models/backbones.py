"""The 2-D backbones: torchvision's networks and slimmer ones, with MIT's temporal shifts and non-local blocks.

A network is returned as its parts under torchvision's names, so that state_dict keys are torchvision's. A non-local
block is the `nl` of the block that it follows, as in MIT's checkpoints: `layer2.0.nl.theta.weight`. Clips, the
consensus over frames and pretrained weights are not part of this module.
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import MobileNetV2, ResNet
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import Bottleneck

from configs import ConfigError
from configs.schema import Model
from models.resnets import RESNETS, build_resnet, use_leaky_relus
from models.shift.conv import FORMS, ShiftedConv2d

DEEP = 23  # if a stage has this many blocks, MIT shifts in every second block of all stages
ATTENDING = {"layer2": (0, 2), "layer3": (0, 2, 4)}  # the blocks that MIT's non-local blocks follow


def build_parts(settings: Model) -> dict[str, nn.Module]:
    """Build the network; return its parts by torchvision's names, in the order they are applied, the classifier last.

    Convolutions have He initialisation with fan-out, as in torchvision. The parts before the classifier map frames_NCHW
    to features_NCHW, which the caller averages over H and W.
    """
    if settings.backbone == "mobilenet_v2":
        net = MobileNetV2(settings.num_classes, dropout=0)  # the Recognizer applies dropout
    else:
        net = build_resnet(settings.backbone, settings.width, settings.num_classes)
    if settings.leaky_slope:
        use_leaky_relus(net, settings.leaky_slope)
    if settings.name == "tsm":
        _add_shifts(net, settings)
    if settings.non_local:
        _add_non_local(net, settings.frames)
    return {name: part for name, part in net.named_children() if name != "avgpool"}


def shift_step(backbone: str, shift_every: int) -> int:
    """Return n if every nth block of a stage shifts; resolves 0 of model.shift_every as in MIT's code."""
    *_, layers = RESNETS.get(backbone, ([],))
    return shift_every or (2 if DEEP in layers else 1)


def _add_shifts(net: nn.Module, settings: Model) -> None:
    """Replace the first convolution of residual branches by a shifting one; skip connections stay unshifted."""
    for parent, name in list(_shifted_layers(net, shift_step(settings.backbone, settings.shift_every))):
        conv = parent.get_submodule(name)
        fold = conv.in_channels // settings.shift_div
        if not fold:
            raise ConfigError(
                f"model.shift_div: 1/{settings.shift_div} of {conv.in_channels} channels is less than one, so nothing "
                f"would be shifted; use at most {conv.in_channels}"
            )
        after = 0 if settings.causal else fold
        shifted = ShiftedConv2d(conv, settings.frames, after, fold, FORMS[settings.shift])
        if settings.shift == "folded" and not shifted.foldable:
            raise ConfigError(
                f"model.shift: folded: {settings.backbone} shifts before 3x3 convolutions, and the shift can only be "
                "folded into 1x1 ones; use auto"
            )
        parent.set_submodule(name, shifted)


def _shifted_layers(net: nn.Module, every: int) -> Iterator[tuple[nn.Module, str]]:
    """Yield each block that shifts in MIT's TSM ("blockres"), with the name of its shifting convolution."""
    if isinstance(net, ResNet):
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            yield from ((block, "conv1") for block in stage[::every])
    else:
        for block in net.features:
            if isinstance(block, InvertedResidual) and block.use_res_connect:
                yield block, "conv.0.0"


def _add_non_local(net: ResNet, frames: int) -> None:
    """Add MIT's non-local blocks. MIT's code drops the blocks after layer3.5; here they are kept."""
    for stage, numbers in ATTENDING.items():
        for number in numbers:
            block = getattr(net, stage)[number]
            block.nl = NonLocal(block.bn3.num_features, frames)
            block.register_forward_hook(_apply_non_local)


def _apply_non_local(block: Bottleneck, inputs: tuple, out_NCHW: Tensor) -> Tensor:
    """Apply a block's non-local block to its output. A forward hook, so that the parameters keep their names."""
    return block.nl(out_NCHW)


class NonLocal(nn.Module):
    """MIT's non-local block: features_NCHW -> features_NCHW over clips of `frames` frames; starts as the identity.

    After Wang et al., arXiv 1711.07971: embedded Gaussian, half of the channels inside, keys and values pooled 2x2. Its
    parameters have MIT's names, and MIT's shapes without the time dimension, because its convolutions are 1x1x1.
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
        # softmax(theta phi^T), without division by sqrt(C). The fused kernels never store the whole attention matrix.
        attended_B1LC = F.scaled_dot_product_attention(theta_B1LC, phi_B1LC, g_B1LC, scale=1.0)
        # Not len(x_NCHW), which would fix the batch size of an exported network.
        attended_NCHW = attended_B1LC.reshape(x_NCHW.shape[0], *x_NCHW.shape[2:], -1).permute(0, 3, 1, 2)
        return x_NCHW + self.W(attended_NCHW)

    def _positions(self, x_NCHW: Tensor) -> Tensor:
        """Return the L = T * H * W positions of each clip, [B, 1, L, C]: a view of channels_last frames."""
        x_BTHWC = x_NCHW.permute(0, 2, 3, 1).unflatten(0, (-1, self.frames))
        return x_BTHWC.flatten(1, 3).unsqueeze(1)
