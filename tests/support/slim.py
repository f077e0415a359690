"""Slim networks whose layers all affect the logits: each layer's output has the spread of a trained network."""

import torch
from torch import nn

from configs.schema import Model
from models import Recognizer, build_model
from tests.support.oracles.weights import fill_by_name


def network(**changes) -> Recognizer:
    """Return a ResNet-50 of width 8 and 4 frames, changed by `changes`, whose logits are of the order of 1.

    Its norms have the statistics of one batch of `clips`; with those of a new network signals grow or vanish. It is in
    double precision, because rounding errors grow a hundredfold through the layers.
    """
    settings = {"backbone": "resnet50", "width": 8, "num_classes": 5, "frames": 4, "fc_std": 0.05} | changes
    torch.manual_seed(0)
    model = build_model(Model(**settings)).double()
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(clips(4, settings["frames"]))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def stable_network(**changes) -> Recognizer:
    """Return a network in single precision in which rounding errors hardly grow; logits may have any size."""
    model = build_model(Model(**({"backbone": "resnet50", "num_classes": 5} | changes))).eval()
    fill_by_name(model)
    return model


def clips(count: int, frames: int, size: int = 32, seed: int = 1) -> torch.Tensor:
    """Return clips_BTCHW of noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, frames, 3, size, size, generator=generator, dtype=torch.float64)


@torch.no_grad()
def streamed(model, frames_TBCHW, caches):
    """Feed a stream frame by frame; return (logits_TBK of each frame, the caches at the end)."""
    answers = []
    for frame_BCHW in frames_TBCHW:
        logits_BK, *caches = model(frame_BCHW, *caches)
        answers.append(logits_BK)
    return torch.stack(answers), caches
