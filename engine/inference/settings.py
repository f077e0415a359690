"""Settings that a network is used with: those of its training from its file, data and machine from a recipe.

Settings of the network, of clips and of views (TRAINED) come from the file; the command line replaces all of them.
Every difference that changes a result is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from omegaconf.errors import OmegaConfBaseException

import configs
from configs import Config, ConfigError
from models import CheckpointError, build_model
from models.weights import zoo
from models.weights.formats import own_settings

logger = logging.getLogger(__name__)
LARGEST = 4  # bytes of a network per byte of its file: half precision explains 2
TRAINED = ("model", "clip", "eval")
NO_EFFECT = ("model.pretrained", "model.shift", "eval.batch")  # on the scores of a video
_ADVICE = "; name a recipe with --config"


def stored_settings(content: object, overrides: Sequence[str], path: Path) -> Config | None:
    """Return the settings in the content of a file, or of its entry in the zoo, under `overrides`; None without any.

    The file need not be trustworthy. Raises CheckpointError for settings that cannot be used, and for those of a
    network that is much larger than the file.
    """
    settings = own_settings(content)
    if settings is None or "model.num_classes" not in settings:
        entry = zoo.entry_of(path)
        return configs.override(entry.config(), overrides) if entry else None
    try:
        trained = configs.override(configs.from_flat(settings), ())
    except (ConfigError, OmegaConfBaseException, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: its settings cannot be used: {reason}{_ADVICE}") from error
    config = configs.override(trained, overrides)
    with torch.device("meta"):  # shapes without numbers
        needed = sum(tensor.nbytes for tensor in build_model(config.model).state_dict().values())
    if needed > LARGEST * path.stat().st_size:
        raise CheckpointError(
            f"{path}: its settings describe a network of {needed:,} bytes, far more than the file has"
        )
    return config


def trained_settings(content: object, recipe: Config | None, path: Path) -> Config | None:
    """Return the settings in the content of a file, None if it has none, or none that can be used beside a recipe."""
    try:
        return stored_settings(content, (), path)
    except CheckpointError as error:
        if recipe is None:
            raise
        logger.warning(f"{str(error).removesuffix(_ADVICE)}; those of the recipe are used")
        return None


def combined(
    path: Path, trained: Config, base: Config, overrides: Sequence[str], recipe: Config | None = None
) -> Config:
    """Return `base` with the settings that a network was trained with, under `overrides`.

    Logs what differs from training, and from the `recipe` if one was named.
    """
    kept = replace(trained.model, pretrained=base.model.pretrained, shift=base.model.shift)
    config = configs.override(replace(base, model=kept, clip=trained.clip, eval=trained.eval), overrides)
    before, after = configs.flat(trained), configs.flat(config)
    relevant = [key for key in before if key.split(".")[0] in TRAINED and key not in NO_EFFECT]
    if recipe:
        asked, given = configs.flat(recipe), configs.overridden(overrides)
        replaced = [
            f"{key}={_text(before[key])} (recipe: {_text(asked[key])})"
            for key in relevant
            if key not in given and asked[key] != before[key]
        ]
        if replaced:
            logger.info(f"settings of {path} replace those of the recipe: {', '.join(replaced)}")
    changed = [
        f"{key}={_text(after[key])} (trained with {_text(before[key])})"
        for key in relevant
        if after[key] != before[key]
    ]
    if changed:
        logger.info(f"settings that differ from training: {', '.join(changed)}")
    return config


def _text(value: object) -> str:
    """Write a value as in a recipe."""
    return str(list(value)) if isinstance(value, tuple) else str(value)
