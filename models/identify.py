"""Which network some weights belong to, as far as names and shapes tell: so that a refusal can say what would work."""

import re
from pathlib import Path

from torch import Tensor
from torchvision.models.resnet import Bottleneck

from configs.schema import Model
from models.backbones import RESNETS

Weights = dict[str, Tensor]

FOREIGN = {  # layers that no network of this project has
    r"^conv1_\d\.": "PP-TSM and PP-TSN are ResNet-vd, a network that this project does not have",
    r"^layer\d\.\d+\.net\.": "it shifts whole blocks (shift_place=block), which no model of this project does",
    r"^layer2\.net\.": "it pools over time (temporal_pool), which no model of this project does",
}


def settings_of(weights: Weights) -> dict[str, object]:
    """Settings of the model section, under torchvision's names; what cannot be told is left out."""
    found = _resnet(weights) if "conv1.weight" in weights else {}
    if "features.0.0.weight" in weights:
        found = {"backbone": "mobilenet_v2"}
    if any(".nl." in key for key in weights):
        found["non_local"] = True
    for classifier in ("fc.weight", "classifier.1.weight"):
        if classifier in weights and weights[classifier].ndim == 2:
            found["num_classes"] = weights[classifier].shape[0]
    return found


def _resnet(weights: Weights) -> dict[str, object]:
    blocks = {match.groups() for key in weights if (match := re.match(r"layer([1-4])\.(\d+)\.", key))}
    counts = [sum(stage == wanted for stage, _ in blocks) for wanted in "1234"]
    bottleneck = "layer1.0.conv3.weight" in weights
    stem = weights["conv1.weight"]
    found = {"width": stem.shape[0]} if stem.ndim == 4 else {}
    for name, (block, layers) in RESNETS.items():
        if (issubclass(block, Bottleneck), layers) == (bottleneck, counts):
            found["backbone"] = name
    return found


def likely_cause(weights: Weights, unexpected: list[str], settings: Model, path: Path, whole: bool) -> str:
    """Why weights do not fit the model of these settings, and what would."""
    for pattern, cause in FOREIGN.items():
        if any(re.search(pattern, key) for key in unexpected):
            return cause
    found = {key: value for key, value in settings_of(weights).items() if getattr(settings, key) != value}
    if not whole:
        found.pop("num_classes", None)  # the classifier is new anyhow
    changes = " ".join(f"model.{key}={str(value).lower()}" for key, value in found.items())
    if found.keys() == {"num_classes"}:
        return f"it has other classes: set {changes}, or {as_a_start(path)}"
    if found:
        return f"it is another network: set {changes}"
    return "it does not hold a whole network of model.backbone and model.width"


def as_a_start(path: Path) -> str:
    """What to do with weights that are not to be used as they are."""
    return f"start a training from it with model.pretrained={path}"
