"""Networks in which everything matters: each layer's output has the spread that training would give it."""

import torch
from torch import nn

from configs.schema import Model
from models import Recognizer, build_model
from tests.support.oracles.detfill import fill_by_name


def network(**changes) -> Recognizer:
    """A ResNet-50 of width 8 and 4 frames, or what `changes` make of it, whose logits are of the order of 1.

    Its norms take the statistics of one batch of `clips`; with those of a new network signals grow or die on the way.
    In double precision, so that what differs at all differs by mistake: rounding grows a hundredfold on the way.
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


def steady(**changes) -> Recognizer:
    """A network in single precision through which rounding hardly grows; logits may be of any size."""
    model = build_model(Model(**({"backbone": "resnet50", "num_classes": 5} | changes))).eval()
    fill_by_name(model)
    return model


def clips(count: int, frames: int, size: int = 32, seed: int = 1) -> torch.Tensor:
    """clips_BTCHW of noise."""
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
