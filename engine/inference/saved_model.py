"""Load and save a network together with its training settings and class names.

For evaluation, export and prediction. Optimizer state and resuming are in `engine.train`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import configs
from configs import Config, ConfigError
from dali_pipes.lists.formats.class_names import read_configured
from engine.classes import stored_names
from engine.inference import settings
from engine.inference.metadata import NetworkInfo
from engine.outputs import Outputs
from engine.runs import checkpoint
from models import CheckpointError, Recognizer, build_model, load_weights, read_file
from models.weights.download import digest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedModel:
    """A network on the host, in evaluation mode, with its metadata."""

    model: Recognizer
    info: NetworkInfo


def load_saved_model(path: str | Path, recipe: str | None = None, overrides: Sequence[str] = ()) -> SavedModel:
    """Load the network in a file of weights of any known format.

    Its settings are those stored in the file, which only this project's files have, and for others those of `recipe`,
    both under `overrides`. Raises ConfigError if there are no settings, CheckpointError if the weights do not fit.
    """
    path = Path(path)
    content = read_file(path)
    config = _settings(path, content, recipe, overrides)
    if config is None:
        raise ConfigError(f"{path}: contains no settings of its network; name its recipe with --config")
    model = build_model(config.model)
    load_weights(model, path, content)
    names = class_names(stored_names(content, path), config, overrides)
    return SavedModel(model.eval(), NetworkInfo(config, names, str(path), digest(Path(path))))


def _settings(path: Path, content: object, recipe: str | None, overrides: Sequence[str]) -> Config | None:
    if not recipe:
        return settings.stored_settings(content, overrides, path)
    asked = configs.load(recipe, overrides)
    trained = settings.trained_settings(content, asked, path)
    return settings.combined(path, trained, asked, overrides, asked) if trained else asked


def class_names(own: tuple[str, ...], config: Config, overrides: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names stored with a network, or those of data.class_names if it has none or `overrides` set that key.

    Raises DataError if that file cannot be read, ConfigError if its number of names is wrong, or if it has the
    network's classes in another order.
    """
    if own and "data.class_names" not in configs.overridden(overrides):
        return own
    path, classes = config.data.class_names, config.model.num_classes
    names = read_configured(path) if path else ()
    if path and len(names) != classes:
        raise ConfigError(
            f"data.class_names: {path}: {len(names)} names for a network of {classes} classes; "
            "name the file that belongs to it, or none"
        )
    if own and names and names != own and set(names) == set(own):
        raise ConfigError(
            f"data.class_names: {path}: has the network's classes in another order; omit it, the network has names"
        )
    if own and names and names != own:
        logger.warning(f"data.class_names: {path} renames classes of the network, such as {_first_change(own, names)}")
    return names


def _first_change(own: tuple[str, ...], names: tuple[str, ...]) -> str:
    before, after = next(pair for pair in zip(own, names, strict=True) if pair[0] != pair[1])
    return f"{before!r} to {after!r}"


def save(
    path: Path, model: Recognizer, config: Config, class_names: tuple[str, ...], outputs: Outputs | None = None
) -> None:
    """Write a .pt or .safetensors file that `load_saved_model` opens without a recipe.

    Raises ConfigError for another extension or if a file is in the way, CheckpointError if it cannot be written.
    """
    outputs = outputs or Outputs()
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = configs.flat(config)
    if path.suffix == ".pt":
        content = {"model": model.state_dict(), "config": flat, "class_names": class_names}
        checkpoint.save(path, content, outputs)
    elif path.suffix == ".safetensors":
        texts = {"settings": json.dumps(flat), "class_names": json.dumps(class_names)}
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
