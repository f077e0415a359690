"""Load and save a network together with the settings that it was trained with and its class names.

For evaluation, export and prediction. Optimizer state and resuming are in `engine.train`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf.errors import OmegaConfBaseException

import configs
from configs import Config, ConfigError
from dali_pipes.lists.formats.class_names import asked_for
from engine.classes import stored_names
from engine.inference.metadata import NetworkInfo
from engine.outputs import Outputs
from engine.runs import checkpoint
from models import CheckpointError, Recognizer, build_model, load_weights, read_file
from models.weights import zoo
from models.weights.download import digest

logger = logging.getLogger(__name__)
LARGEST = 4  # bytes of a network per byte of its file: half precision explains 2


@dataclass(frozen=True)
class SavedModel:
    """A network in evaluation mode on the host, with its metadata."""

    model: Recognizer
    info: NetworkInfo


def load_saved_model(path: str | Path, recipe: str | None = None, overrides: Sequence[str] = ()) -> SavedModel:
    """Load the network in a file of weights of any known format.

    Its settings are those of `recipe` under `overrides`, or without a recipe those stored in the file, which only this
    project's files have. Raises ConfigError if there are no settings, CheckpointError if the weights do not fit.
    """
    path = Path(path)
    content = read_file(path)
    config = configs.load(recipe, overrides) if recipe else stored_settings(content, overrides, path)
    if config is None:
        raise ConfigError(f"{path}: holds no settings of its network; name its recipe with --config")
    model = build_model(config.model)
    load_weights(model, path, content)
    names = class_names(stored_names(content, path), config, overrides)
    return SavedModel(model.eval(), NetworkInfo(config, names, str(path), digest(Path(path))))


def class_names(own: tuple[str, ...], config: Config, overrides: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names stored with a network; those of data.class_names if it has none or `overrides` set that key.

    Raises DataError if that file cannot be read, ConfigError if it does not name exactly the network's classes, or
    names the same classes in another order.
    """
    if own and "data.class_names" not in configs.overridden(overrides):
        return own
    path, classes = config.data.class_names, config.model.num_classes
    names = asked_for(path) if path else ()
    if path and len(names) != classes:
        raise ConfigError(
            f"data.class_names: {path}: {len(names)} names for a network of {classes} classes; "
            "name the file that belongs to it, or none"
        )
    if own and names and names != own and set(names) == set(own):
        raise ConfigError(
            f"data.class_names: {path}: has the network's classes in another order; leave it out, the network has names"
        )
    if own and names and names != own:
        logger.warning(f"data.class_names: {path} renames classes of the network, such as {_first_change(own, names)}")
    return names


def _first_change(own: tuple[str, ...], names: tuple[str, ...]) -> str:
    before, after = next(pair for pair in zip(own, names, strict=True) if pair[0] != pair[1])
    return f"{before!r} to {after!r}"


def stored_settings(content: object, overrides: Sequence[str], path: Path) -> Config | None:
    """Return the settings in the content of a file, or of its entry in the zoo, under `overrides`; None without any.

    The file need not be trustworthy. Raises CheckpointError for settings that cannot be used, and for those of a
    network that is much larger than the file.
    """
    settings = content.get("config") if isinstance(content, dict) else None
    if not isinstance(settings, dict):
        entry = zoo.entry_of(path)
        return configs.override(entry.config(), overrides) if entry else None
    try:
        config = configs.override(configs.from_flat(settings), overrides)
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: its settings cannot be used: {reason}; name a recipe with --config") from error
    with torch.device("meta"):  # shapes without numbers
        needed = sum(tensor.nbytes for tensor in build_model(config.model).state_dict().values())
    if needed > LARGEST * path.stat().st_size:
        raise CheckpointError(f"{path}: its settings ask for a network of {needed:,} bytes, far more than it has")
    return config


def save(
    path: Path, model: Recognizer, config: Config, class_names: tuple[str, ...], outputs: Outputs | None = None
) -> None:
    """Write a .pt or .safetensors file that `load_saved_model` opens without a recipe.

    Raises ConfigError for other endings of `path` or a file in the way, CheckpointError if it cannot be written.
    """
    outputs = outputs or Outputs()
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = configs.flat(config)
    if path.suffix == ".pt":
        content = {"model": model.state_dict(), "config": settings, "class_names": class_names}
        checkpoint.save(path, content, outputs)
    elif path.suffix == ".safetensors":
        texts = {"settings": json.dumps(settings), "class_names": json.dumps(class_names)}
        _save_safetensors(path, model, texts, outputs)
    else:
        raise ConfigError(f"{path}: ends neither in .pt nor in .safetensors; name it so")


def _save_safetensors(path: Path, model: Recognizer, texts: dict[str, str], outputs: Outputs) -> None:
    try:
        from safetensors.torch import save as packed
    except ImportError:
        raise ConfigError("safetensors is needed for this and not installed; pip install safetensors") from None
    content = packed({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, texts)
    try:
        with outputs.replacing(path, "wb") as file:
            file.write(content)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error})") from error
