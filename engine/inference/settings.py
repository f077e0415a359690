"""Determine the settings for using a network: those of its training from its file, data and machine from a recipe.

Settings of the network, clips and views (TRAINED) come from the file; the command line overrides all of them. Every
difference that may change a result is logged.
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
LARGEST = 4  # bytes of a network per byte of its file: 2 for half precision, with a margin
TRAINED = ("model", "clip", "eval")
NO_EFFECT = ("model.pretrained", "model.shift", "eval.batch")  # do not influence the scores of a video
_ADVICE = "; name a recipe with --config"


def stored_settings(content: object, overrides: Sequence[str], path: Path) -> Config | None:
    """Return the settings of a file, or of its entry in the zoo, with `overrides` applied; None if there are none.

    The file may be untrusted. Raises CheckpointError for unusable settings, and for settings of a network that is much
    larger than the file.
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
    """Return the settings of a file, or None if it has none, or if they are unusable and there is a recipe."""
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
    """Return `base` with the training settings of a network, and `overrides` applied.

    Log the differences from training, and from the `recipe` if there is one.
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
    """Format a value as in a recipe."""
    return str(list(value)) if isinstance(value, tuple) else str(value)
