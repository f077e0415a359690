"""Open a network for evaluation with the settings that it was trained with.

`settings` says what comes from its file, and what from a recipe.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

import configs
from configs import Config, ConfigError, cli
from configs.schema import Data
from dali_pipes.storage.objects import absolute
from engine import distributed, runtime
from engine.classes import stored_names
from engine.inference.exported import OPENERS
from engine.inference.network import Network, open_network, portable
from engine.inference.settings import combined, trained_settings
from models import build_model, load_weights, read_file

logger = logging.getLogger(__name__)
OF_A_LIST = ("root", "prefix", "suffix", "format", "divided")  # data settings that belong to one list
OF_A_MACHINE = ("device", "threads", "onnx_provider")  # runtime settings that also apply to exported networks


@dataclass(frozen=True)
class EvaluatedNetwork:
    """A network on its device, ready for `evaluate`."""

    model: nn.Module
    config: Config  # resolved for this machine
    class_names: tuple[str, ...]  # by label; empty if unknown
    device: torch.device


class _ExportedModule(nn.Module):
    """An exported network as a module: clips_BTCHW -> logits_BK."""

    def __init__(self, network: Network):
        super().__init__()
        self.score = network.score
        self.place = nn.Parameter(torch.empty(0, device=network.device), requires_grad=False)

    def forward(self, clips_BTCHW: Tensor) -> Tensor:
        return self.score(clips_BTCHW)


def open_evaluated(path: Path, recipe: Config | None, overrides: Sequence[str]) -> EvaluatedNetwork:
    """Open a file of weights, or one of tools/export.py, under `overrides`.

    `recipe` has the overrides applied; it is required if the file contains no settings. Raises ConfigError or
    CheckpointError if file and settings do not fit.
    """
    if path.suffix in OPENERS:
        return _open_exported(path, recipe, overrides)
    content = read_file(path)
    config = _settings(path, trained_settings(content, recipe, path), recipe, overrides)
    names = stored_names(content, path)
    config = runtime.resolve(config)
    device = runtime.prepare(config.runtime, config.train.seed)

    def load() -> nn.Module:
        model = build_model(config.model)
        logger.info(load_weights(model, path, content).summary())
        return model

    model = runtime.place(distributed.one_rank_first(load), config.runtime, device)
    if not names:
        logger.info(f"{path} contains no class names, so classes cannot be compared with those of the list")
    return EvaluatedNetwork(model, config, names, device)


def _open_exported(path: Path, recipe: Config | None, overrides: Sequence[str]) -> EvaluatedNetwork:
    here = [f"runtime.{name}={getattr(recipe.runtime, name)}" for name in OF_A_MACHINE] if recipe else []
    network = open_network(str(path), overrides=[*here, *overrides])
    assert network.exported
    config = _settings(path, network.exported.config, recipe, overrides)
    config = replace(config, runtime=network.info.config.runtime)
    return EvaluatedNetwork(_ExportedModule(network), config, network.info.class_names, network.device)


def _settings(path: Path, trained: Config | None, recipe: Config | None, overrides: Sequence[str]) -> Config:
    """Return the settings of the evaluation, and log differences from the recipe and from training."""
    if trained is None:
        if recipe is None:
            raise ConfigError(f"{path}: contains no settings of its network; name its recipe with --config")
        logger.info(f"{path} contains no settings: using those of the recipe")
        return recipe
    base = recipe or _for_other_list(portable(configs.moved(trained, cli.run_folder(path))), overrides)
    return combined(path, trained, base, overrides, recipe)


def _for_other_list(config: Config, overrides: Sequence[str]) -> Config:
    """Reset the settings that belong to the lists of a run, if the command line names another list to evaluate."""
    data, given = config.data, configs.overridden(overrides)
    test, val = (str(given.get(f"data.{name}", getattr(data, name))) for name in ("test", "val"))
    if not (test or val) or absolute(test or val) in map(absolute, filter(None, (data.train, data.val, data.test))):
        return config
    defaults = Data()
    changed = [name for name in OF_A_LIST if getattr(config.data, name) != getattr(defaults, name)]
    if changed:
        logger.info(
            "settings of the trained lists are not used for another list: "
            + ", ".join(f"data.{name}" for name in changed)
        )
    return replace(config, data=replace(config.data, **{name: getattr(defaults, name) for name in OF_A_LIST}))
