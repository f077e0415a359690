"""Weights from files: which format a file has, what of it fits a model, and a report of what was loaded.

All or nothing: a file that fits only in part is refused, because half-loaded weights train, badly, without a word.
Knows nothing of optimizers or of resuming; that a run's checkpoints are read here too is so that they can be evaluated.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from models.recognizer import Recognizer

Weights = dict[str, Tensor]


class CheckpointError(Exception):
    """A file of weights that cannot be used: names the file, what was seen, and what would work."""


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor of a file, and of each of the model."""

    path: Path
    format: str
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Of the model, not in the file."""
    unexpected: list[str] = field(default_factory=list)
    """In the file, not of the model."""
    skipped: dict[str, str] = field(default_factory=dict)
    """In both and not loaded, each with the reason."""

    def summary(self) -> str:
        """One line: how many tensors were loaded from where, and what was not."""
        parts = [f"{len(self.matched)} tensors loaded from {self.path} ({self.format})"]
        parts += [f"{key} skipped: {reason}" for key, reason in self.skipped.items()]
        parts += [f"{name}: {_some(keys)}" for name in ("missing", "unexpected") if (keys := getattr(self, name))]
        return "; ".join(parts)


def load_weights(model: Recognizer, path: str | Path) -> LoadReport:
    """Load all weights of `model` from a file, whose format is recognised by its content.

    Raises CheckpointError, and leaves the model as it was, where the file is unreadable or does not fit exactly.
    """
    return _load(model, Path(path), optional=[])


def load_pretrained(model: Recognizer, source: str) -> LoadReport | None:
    """Start `model` from `source`, as `model.pretrained` has it: `imagenet`, `none`, or the path of a file.

    The classifier keeps its random weights where the file has none or one for another number of classes.
    `imagenet` are torchvision's V1 weights, downloaded once. Raises CheckpointError as `load_weights` does.
    """
    if source == "none":
        return None
    path = _imagenet_file(model.settings.backbone) if source == "imagenet" else Path(source)
    classifier = [key for key in model.state_dict() if key.startswith(f"{model.head}.")]
    return _load(model, path, optional=classifier)


def _load(model: Recognizer, path: Path, optional: list[str]) -> LoadReport:
    name, weights = _recognise(read_file(path), path)
    report = _compare(model.state_dict(), weights, path, name)
    _refuse_half(report, optional)
    model.load_state_dict({key: weights[key] for key in report.matched}, strict=False)
    return report


def read_file(path: Path) -> object:
    """What the file holds, without running any code that a hostile file may carry."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file of weights; check the path")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}): it is damaged or holds more than tensors and plain "
            "values; write it again with torch.save(model.state_dict())"
        ) from error


def _own_checkpoint(content: dict) -> Weights | None:
    """A checkpoint of this project: averaged weights, where there are any, before the last ones."""
    return _tensors(content.get("ema")) or _tensors(content.get("model"))


def _tensors(content: object) -> Weights | None:
    """A plain state_dict, with torchvision's names."""
    if isinstance(content, dict) and content and all(map(_has_numbers, content.values())):
        return content
    return None


def _has_numbers(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


FORMATS: dict[str, Callable[[dict], Weights | None]] = {
    "checkpoint of a run": _own_checkpoint,
    "torchvision": _tensors,
}


def _recognise(content: object, path: Path) -> tuple[str, Weights]:
    """The name of the file's format, and its tensors under our names."""
    entries = content if isinstance(content, dict) else {}
    for name, weights_of in FORMATS.items():
        if weights := weights_of(entries):
            return name, weights
    seen = f"a dictionary of {_some(entries)}" if entries else f"a {type(content).__name__}"
    raise CheckpointError(f"{path}: holds {seen}; formats that can be read: {', '.join(FORMATS)}")


def _compare(wanted: Weights, given: Weights, path: Path, name: str) -> LoadReport:
    report = LoadReport(path, name, unexpected=[key for key in given if key not in wanted])
    for key, tensor in wanted.items():
        if key in given and (reason := _misfit(given[key], tensor)):
            report.skipped[key] = reason
        elif key in given:
            report.matched.append(key)
        elif not key.endswith("num_batches_tracked"):  # absent from torchvision's files, and read by nothing
            report.missing.append(key)
    return report


def _misfit(given: Tensor, wanted: Tensor) -> str:
    """Why a tensor of a file cannot stand for one of the model; empty where it can."""
    if given.shape != wanted.shape:
        return f"{list(given.shape)} in the file, {list(wanted.shape)} in the model"
    if wanted.is_floating_point() and not given.is_floating_point():
        return f"{given.dtype} in the file, {wanted.dtype} in the model"
    return ""


def _refuse_half(report: LoadReport, optional: list[str]) -> None:
    missing = [key for key in report.missing if key not in optional]
    misfits = [f"{key} ({reason})" for key, reason in report.skipped.items() if key not in optional]
    found = {"missing": missing, "unexpected": report.unexpected, "misfit": misfits}
    problems = [f"{what}: {_some(keys)}" for what, keys in found.items() if keys]
    if problems:
        raise CheckpointError(
            f"{report.path}: does not fit the model; {'; '.join(problems)}; "
            "check model.backbone, model.width and model.num_classes"
        )


def _some(keys: Iterable[object], most: int = 5) -> str:
    names = [str(key) for key in keys]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _imagenet_file(backbone: str) -> Path:
    """torchvision's V1 weights of a backbone, downloaded into torch.hub's folder unless they are there."""
    url = get_model_weights(backbone).IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if not path.exists():
        _download(url, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(path.stem.rpartition("-")[2]):  # torchvision's names end in the start of the digest
        raise CheckpointError(f"{path}: damaged, its sha256 is {digest[:8]}...; delete it, it is downloaded again")
    return path


def _download(url: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except OSError as error:
        raise CheckpointError(
            f"{url}: cannot be downloaded ({error}); put {path.name} into {path.parent}, or set model.pretrained=none"
        ) from error
