"""Compare the classes of a file of weights with those of the data by name, and adapt the classifier to the data.

Shapes: K classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from configs import ConfigError
from dali_pipes.lists.formats.class_names import Numbers, difference, only_in, some
from models import CheckpointError, LoadReport, Recognizer
from models.weights import zoo

logger = logging.getLogger(__name__)
_REWRITE = "write it again with tools/import_weights.py"


def stored_names(content: object, path: str | Path) -> tuple[str, ...]:
    """Return the class names of a file of weights, or of its entry in the zoo, by label; empty if there are none.

    Raises CheckpointError if they are not texts, if two are equal, or if there are more names than classes.
    """
    names = content.get("class_names") if isinstance(content, dict) else None
    if not isinstance(names, list | tuple | None) or not all(isinstance(name, str) for name in names or ()):
        raise CheckpointError(f"{path}: its class_names are not a list of texts; {_REWRITE}")
    settings = content.get("config") if isinstance(content, dict) else None
    classes = settings.get("model.num_classes") if isinstance(settings, dict) else None
    if names and len(set(names)) < len(names):
        raise CheckpointError(f"{path}: two of its class names are the same; {_REWRITE}")
    if names and isinstance(classes, int) and len(names) > classes:
        raise CheckpointError(f"{path}: has {len(names)} class names for {classes} classes; {_REWRITE}")
    return tuple(names or zoo.class_names(Path(path)))


def fit_classifier(model: Recognizer, loaded: LoadReport, names: Sequence[str], *, whole: bool) -> None:
    """Copy the classifier's rows from a file of weights to the classes of the data with the same names.

    `model` was loaded from the file; `names` are the class names of the data by label. Classes that the file lacks get
    random weights, or raise a ConfigError with `whole`. If either side has no names, nothing changes, and a message
    says so.
    """
    path, stored = loaded.path, _classifier(loaded.found.weights, model.head)
    in_file = stored_names(loaded.content, path)
    if not stored or in_file == tuple(names):
        return
    if not in_file or not names:
        lacking = f"{path} holds" if not in_file else "the training list has"
        logger.info(f"{lacking} no class names: classes cannot be compared by name")
        return
    row_of = Numbers(in_file)
    row_K = [row_of.get(name) for name in names]
    new = [name for name, row in zip(names, row_K, strict=True) if row is None]
    if whole and (new or len(in_file) != len(names)):
        raise ConfigError(f"--weights: {path}: the training list {difference(names, in_file)}")
    _assign(_linear(model), stored, row_K, model.settings.fc_std)
    dropped = only_in(in_file, names)
    parts = [f"new: {some(new)}"] if new else []
    parts += [f"not needed: {some(dropped)}"] if dropped else []
    taken = len(names) - len(new)
    logger.info("; ".join([f"classifier: {taken} of {len(names)} classes taken by name from {path}", *parts]))


def _classifier(weights: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    """Return the classifier's weight and bias in a file; empty if it has none."""
    return {key.rpartition(".")[2]: tensor for key, tensor in weights.items() if key.startswith(f"{head}.")}


def _linear(model: Recognizer) -> nn.Linear:
    (linear,) = (part for part in getattr(model, model.head).modules() if isinstance(part, nn.Linear))
    return linear


@torch.no_grad()
def _assign(linear: nn.Linear, stored: dict[str, Tensor], row_K: Sequence[int | None], std: float) -> None:
    """Copy rows of the stored classifier; rows without a source are initialised randomly."""
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
    for label, row in enumerate(row_K):
        if row is not None:
            linear.weight[label] = stored["weight"][row]
            linear.bias[label] = stored["bias"][row]
