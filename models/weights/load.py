"""Loads weights from files into networks, and reports what was loaded.

A file that fits only in part is refused, because half-loaded weights train badly and nothing shows it. This module
knows nothing of optimizers or of resuming a run.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from torch import Tensor
from torchvision.models.resnet import Bottleneck

from configs.schema import Model
from models.backbones import shift_step
from models.errors import CheckpointError, printable, some
from models.recognizer import Recognizer
from models.resnets import RESNETS, ResNetD, SlimResNet
from models.shift.conv import ShiftedConv2d
from models.weights import formats, imagenet, paddle, zoo
from models.weights.formats import Found, Weights
from models.weights.read import read_file


@dataclass(frozen=True)
class LoadReport:
    """The content of a file, and the outcome for each tensor of the file and of the model."""

    path: Path
    content: object = field(repr=False)
    """As it was read."""
    found: Found = field(repr=False)
    """Its tensors."""
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """In the model, not in the file."""
    unexpected: list[str] = field(default_factory=list)
    """In the file, not in the model."""
    skipped: dict[str, str] = field(default_factory=dict)
    """In both, but not loaded, each with the reason."""
    converted: list[str] = field(default_factory=list)
    """Conversions of the values, and remarks on them."""

    @property
    def format(self) -> str:
        return self.found.format

    @property
    def has_video_classes(self) -> bool:
        """True if the file holds classes of videos, False for ImageNet's."""
        return _holds_actions(self.found, self.path)

    def summary(self) -> str:
        """Return one line: the number of tensors loaded, their file, conversions, and what was not loaded."""
        parts = [f"{len(self.matched)} tensors loaded from {self.path} ({self.format})", *self.converted]
        parts += [f"{key} skipped: {reason}" for key, reason in self.skipped.items()]
        parts += [f"{name}: {some(keys)}" for name in ("missing", "unexpected") if (keys := getattr(self, name))]
        return "; ".join(parts)


def load_weights(model: Recognizer, path: str | Path, content: object = None) -> LoadReport:
    """Load all weights of `model` from a file or a `zoo:` name, or from its `content` if that was read before.

    The content tells the format. Raises CheckpointError, and leaves the model as it was, if the file cannot be read or
    does not fit exactly.
    """
    path = zoo.local(path)
    return _load(model, path, read_file(path) if content is None else content, whole=True)


def load_pretrained(model: Recognizer, source: str) -> LoadReport | None:
    """Initialise `model` from a source as in `model.pretrained`: `imagenet`, `imagenet_v2`, `none`, `zoo:NAME`, a path.

    The classifier keeps its random weights if the file has none, or one for another number of classes; non-local blocks
    keep theirs if the file has none. Raises CheckpointError as `load_weights` does, and ConfigError if torchvision has
    no such weights.
    """
    if source == "none":
        return None
    known = source in imagenet.VERSIONS
    path = imagenet.weights_file(model.settings.backbone, source) if known else zoo.local(source)
    return _load(model, path, read_file(path), whole=False)


def has_video_classes(source: str) -> bool:
    """Return True if the file that a training starts from holds classes of videos, False for ImageNet's and `none`.

    A file of ImageNet's is told by its 1,000 classes, which no published set of videos has. A missing file counts as
    one of videos; loading it names it. Raises CheckpointError if it cannot be read.
    """
    if source.startswith(zoo.PREFIX):
        return zoo.find(source).data != zoo.IMAGENET
    if source == "none" or source in imagenet.VERSIONS:
        return False
    if not (path := Path(source)).is_file():
        return True
    return _holds_actions(formats.recognise(read_file(path), path), path)


def _holds_actions(found: Found, path: Path) -> bool:
    if entry := zoo.entry_of(path):
        return entry.data != zoo.IMAGENET
    return bool(found.settings) or settings_of(found.weights).get("num_classes") != imagenet.CLASSES


def _load(model: Recognizer, path: Path, content: object, *, whole: bool) -> LoadReport:
    found = formats.recognise(content, path)
    report = _compare(model, LoadReport(path, content, found))
    _check_complete(model, found, report, whole)
    weights = {key: found.weights[key] for key in report.matched}
    _check_values(weights, report)
    if found.format == "PaddleVideo" and whole and "conv1.6.weight" in weights:  # PP-TSM or PP-TSN
        slope = paddle.LEAKY_SLOPE if model.settings.name == "tsm" else 0.0
        found = replace(found, settings={"model.leaky_slope": slope})
    if found.format == "PaddleVideo" and model.settings.name == "tsm":
        found = replace(found, shifts=paddle.shifted_layers(weights))
        weights = _mirror_shift(weights, model.settings, report)
    _compare_shifts(model, found, report, whole)
    _compare_settings(model.settings, found, report, whole)
    if found.shifts and found.format in ("MIT TSM", "mmaction2") and not _tells_share(found, path):
        share = f"model.shift_div={model.settings.shift_div}"
        report.converted.append(f"taken as trained with {share}, which the file does not tell")
    model.load_state_dict(weights, strict=False)
    return report


def _tells_share(found: Found, path: Path) -> bool:
    """Return True if the share of channels that a network shifts is known; its tensors do not show it."""
    return "model.shift_div" in found.settings or zoo.entry_of(path) is not None


def _compare(model: Recognizer, report: LoadReport) -> LoadReport:
    """Add to a report what each tensor comes to."""
    wanted, given = model.state_dict(), report.found.weights
    report.unexpected.extend(key for key in given if key not in wanted)
    report.converted.extend(report.found.converted)
    for key, tensor in wanted.items():
        if key in given and (reason := _misfit(given[key], tensor)):
            report.skipped[key] = reason
        elif key in given:
            report.matched.append(key)
        elif not key.endswith("num_batches_tracked"):  # absent from many files, and not used
            report.missing.append(key)
    return report


def _misfit(given: Tensor, wanted: Tensor) -> str:
    """Return the reason why a tensor of the file does not fit one of the model; empty if it fits."""
    if given.shape != wanted.shape:
        return f"{list(given.shape)} in the file, {list(wanted.shape)} in the model"
    if wanted.is_floating_point() and not given.is_floating_point():
        return f"{given.dtype} in the file, {wanted.dtype} in the model"
    return ""


def _check_complete(model: Recognizer, found: Found, report: LoadReport, whole: bool) -> None:
    """Raise CheckpointError with the likely cause if tensors do not fit. Without `whole`, new layers may be missing."""
    needed = [key for key in model.state_dict() if whole or not (key.startswith(f"{model.head}.") or ".nl." in key)]
    misfits = [f"{key} ({report.skipped[key]})" for key in needed if key in report.skipped]
    missing = [key for key in needed if key in report.missing]
    seen = {"missing": missing, "unexpected": report.unexpected, "misfit": misfits}
    problems = [f"{what}: {some(keys)}" for what, keys in seen.items() if keys]
    if problems:
        cause = likely_cause(found.weights, report.unexpected, model.settings, report.path, whole)
        raise CheckpointError(f"{report.path}: does not fit the model; {'; '.join(problems)}; {cause}")


def _check_values(weights: Weights, report: LoadReport) -> None:
    """Raise CheckpointError for tensors with which no network computes a number."""
    floating = {key: tensor for key, tensor in weights.items() if tensor.is_floating_point()}
    broken = [key for key, tensor in floating.items() if not tensor.isfinite().all()]
    broken += [key for key, tensor in floating.items() if key.endswith("running_var") and (tensor < 0).any()]
    if broken:
        raise CheckpointError(
            f"{report.path}: contains values that are not finite, or variances below zero: {some(broken)}; "
            "it is damaged, or of a training that failed; take another file"
        )


def _mirror_shift(weights: Weights, settings: Model, report: LoadReport) -> Weights:
    """Convert a PaddleVideo TSM, which shifts in the opposite direction; note it in the report."""
    if settings.causal:  # its only fold takes the previous frame, as the first fold of PaddleVideo does
        return weights
    try:
        weights, count = paddle.swap_folds(weights, settings.shift_div)
    except CheckpointError as error:
        raise CheckpointError(f"{report.path}: {error}") from None
    trained = f"{settings.shift_div} frames (model.shift_div)"
    doubt = f", though model.frames is {settings.frames}" if settings.frames != settings.shift_div else ""
    report.converted.append(f"folds of channels swapped in {count} tensors, exact if trained with {trained}{doubt}")
    return weights


def _compare_shifts(model: Recognizer, found: Found, report: LoadReport, whole: bool) -> None:
    """Refuse weights trained with the shift in other layers; where a training starts, note it in the report instead.

    Such weights have the right shapes, and still give wrong results.
    """
    ours = {name for name, part in model.named_modules() if isinstance(part, ShiftedConv2d)}
    if found.shifts and model.settings.causal:  # published weights have two-sided shifts
        seen = "trained with a shift from both neighbouring frames, the model shifts from the previous one only"
        remedy = "set model.causal=false"
    elif found.shifts is None and whole and not found.settings:
        report.converted.append(f"taken as those of a {model.settings.name.upper()}, which the file does not tell")
        return
    elif found.shifts is None or found.shifts == ours:
        return
    else:
        seen = (
            f"trained with the shift in {len(found.shifts) or 'no'} layers, the model shifts in {len(ours) or 'none'}"
        )
        remedy = "model.name and model.shift_every say where"
    _refuse_or_note(seen, remedy, report, whole)


def _compare_settings(ours: Model, found: Found, report: LoadReport, whole: bool) -> None:
    """Refuse, or note, settings of the file that change the network's results but not the shapes of its tensors."""
    changes = []
    for name in ("name", "shift_div", "shift_every", "causal", "leaky_slope"):
        theirs, used = found.settings.get(f"model.{name}"), getattr(ours, name)
        if type(theirs) is not type(used) or theirs == used:
            continue
        every = cast(int, theirs)
        if name != "shift_every" or shift_step(ours.backbone, every) != shift_step(ours.backbone, ours.shift_every):
            changes.append(f"model.{name}={printable(str(theirs)).lower()}")
    if changes:
        _refuse_or_note(f"trained with {' '.join(changes)}", "set that", report, whole)


def _refuse_or_note(seen: str, remedy: str, report: LoadReport, whole: bool) -> None:
    """Raise CheckpointError for a whole network; note it in the report where a training starts."""
    if whole:
        raise CheckpointError(f"{report.path}: {seen}; {remedy}; or {as_a_start(report.path)}")
    report.converted.append(seen)


FOREIGN = {  # layers that no network here has
    r"^layer\d\.\d+\.net\.": "it shifts whole blocks (shift_place=block), which no model of this project does",
    r"^layer2\.net\.": "it pools over time (temporal_pool), which no model of this project does",
}


STEMS = {"conv1.weight": SlimResNet, "conv1.6.weight": ResNetD}  # the last convolution of each kind's stem


def settings_of(weights: Weights) -> dict[str, object]:
    """Infer settings of the model section from tensors under torchvision's names, as far as that is possible."""
    found = _resnet(weights) if weights.keys() & STEMS.keys() else {}
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
    (stem,) = weights.keys() & STEMS.keys()
    found: dict[str, object] = {"width": weights[stem].shape[0]} if weights[stem].ndim == 4 else {}
    for name, (kind, block, layers) in RESNETS.items():
        if (kind, issubclass(block, Bottleneck), layers) == (STEMS[stem], bottleneck, counts):
            found["backbone"] = name
    return found


def likely_cause(weights: Weights, unexpected: list[str], settings: Model, path: Path, whole: bool) -> str:
    """Explain why weights do not fit the model of these settings, and name the settings that would."""
    for pattern, cause in FOREIGN.items():
        if any(re.search(pattern, key) for key in unexpected):
            return cause
    found = {key: value for key, value in settings_of(weights).items() if getattr(settings, key) != value}
    if not whole:
        found.pop("num_classes", None)  # the classifier is initialised randomly in any case
    changes = " ".join(f"model.{key}={str(value).lower()}" for key, value in found.items())
    if found.keys() == {"num_classes"}:
        return f"it has other classes: set {changes}, or {as_a_start(path)}"
    if found:
        return f"it is another network: set {changes}"
    if "backbone" in settings_of(weights) and not any(key.endswith(".running_mean") for key in weights):
        return "it has no statistics of batch norms, like averaged weights (EMA) alone: add those of the network"
    return "it does not contain a whole network of model.backbone and model.width"


def as_a_start(path: Path) -> str:
    """Return the advice to start a training from weights that cannot be used as they are."""
    return f"start a training from it with model.pretrained={path}"
