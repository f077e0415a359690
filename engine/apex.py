"""Use NVIDIA's apex, if it is built: its fused SGD, and its batch norms fused with the following ReLU and addition.

It is recognised by the required compiled modules, because on PyPI the name belongs to another project. Both are
optional and equal torch's versions up to rounding. Neither has been compared with torch on a GPU yet.

Shapes: N = B * T frames of B clips, C channels, H W pixels.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from configs import Config, ConfigError

BUILD = (
    "git clone https://github.com/NVIDIA/apex && cd apex && "
    "APEX_CPP_EXT=1 APEX_CUDA_EXT=1 APEX_BNP=1 pip install --no-build-isolation ."
)


def problems(config: Config) -> list[str]:
    """Return the reasons why a resolved configuration cannot use the requested parts of apex."""
    runtime = config.runtime
    found = []
    if config.optim.impl == "apex" and runtime.device != "cuda":
        found.append("optim.impl: apex computes on a GPU; use torch")
    if config.optim.impl == "apex" and config.train.on_nonfinite == "skip" and runtime.precision != "fp16":
        found.append("train.on_nonfinite: apex's SGD skips steps only in fp16; use optim.impl=torch, or stop")
    if runtime.batchnorm == "apex":
        needs = {
            "runtime.device=cuda": runtime.device == "cuda",
            "runtime.precision=fp16": runtime.precision == "fp16",
            "runtime.channels_last=true": runtime.channels_last,
            "runtime.compile=off": runtime.compile == "off",
            "a ResNet": config.model.backbone.startswith("resnet"),
        }
        lacking = [need for need, given in needs.items() if not given]
        found += [f"runtime.batchnorm: apex needs {', '.join(lacking)}; or use torch"] if lacking else []
    return found


def fused_sgd(groups: list[dict], **settings: float) -> torch.optim.Optimizer:
    """Return apex's SGD over parameter groups; its state has torch's names, so that a resumed run may switch.

    With a gradient scaler, it makes the host wait once per step, unlike torch's.
    """
    _require("optim.impl", "amp_C")
    return _require("optim.impl", "apex.optimizers").FusedSGD(groups, **settings)


def fuse_batchnorms(model: nn.Module) -> None:
    """Fuse batch norms with the following ReLUs and additions, in a ResNet with fp16 activations and NHWC memory.

    The names of parameters and buffers do not change. `model` must be on its GPU.
    """
    groupbn = _require("runtime.batchnorm", "apex.contrib.groupbn.batch_norm")
    for path, module in list(model.named_modules()):
        if isinstance(module, (BasicBlock, Bottleneck)):
            model.set_submodule(path, FusedBlock(module, groupbn))
    model.bn1, model.relu = NormNHWC(model.bn1, groupbn, relu=True), nn.Identity()


class NormNHWC(nn.BatchNorm2d):
    """A batch norm of x_NCHW in channels_last memory; apex gets the tensor as N H W C."""

    def __init__(self, norm: nn.BatchNorm2d, groupbn: ModuleType, relu: bool):
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(self, name, getattr(norm, name))
        kernel = groupbn.BatchNorm2d_NHWC(norm.num_features, fuse_relu=relu)
        kernel.eps, kernel.momentum = norm.eps, norm.momentum
        self._kernel = (kernel,)  # in a tuple, so that its parameters are not registered twice

    def forward(self, x_NCHW: Tensor, added_NCHW: Tensor | None = None) -> Tensor:
        """Return the batch norm; with `added_NCHW`, the ReLU of the sum of both."""
        (kernel,) = self._kernel
        for name in ("weight", "bias"):
            kernel._parameters[name] = getattr(self, name)
        for name in ("running_mean", "running_var"):
            kernel._buffers[name] = getattr(self, name)
        kernel.training = self.training
        if self.training:
            self.num_batches_tracked.add_(1)  # apex does not count batches
        added_NHWC = None if added_NCHW is None else added_NCHW.permute(0, 2, 3, 1)
        return kernel(x_NCHW.permute(0, 2, 3, 1), added_NHWC).permute(0, 3, 1, 2)


class FusedBlock(nn.Module):
    """A residual block with ReLUs fused into its batch norms; the children have torchvision's names."""

    def __init__(self, block: BasicBlock | Bottleneck, groupbn: ModuleType):
        super().__init__()
        self.depth = 3 if isinstance(block, Bottleneck) else 2
        for number in range(1, self.depth + 1):
            setattr(self, f"conv{number}", getattr(block, f"conv{number}"))
            setattr(self, f"bn{number}", NormNHWC(getattr(block, f"bn{number}"), groupbn, relu=True))
        self.downsample = block.downsample
        if block.downsample is not None:
            self.downsample[1] = NormNHWC(block.downsample[1], groupbn, relu=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        identity_NCHW = x_NCHW if self.downsample is None else self.downsample(x_NCHW)
        for number in range(1, self.depth):
            x_NCHW = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x_NCHW))
        last_conv, last_norm = getattr(self, f"conv{self.depth}"), getattr(self, f"bn{self.depth}")
        return last_norm(last_conv(x_NCHW), identity_NCHW)


def _require(setting: str, module: str) -> ModuleType:
    """Import a compiled module of apex. Raises ConfigError if it is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{setting}: apex needs NVIDIA's apex, built with CUDA; {module} cannot be imported ({error}), and what "
            f"PyPI calls apex is another project. Use torch, or build apex: {BUILD}"
        ) from None
