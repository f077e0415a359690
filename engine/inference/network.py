"""Open a network from any file format on this machine, ready to score clips or streams."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import configs
from configs import Config, ConfigError
from dali_pipes.device import pick_device
from engine import runtime
from engine.inference.exported import OPENERS, ExportedNetwork, open_exported
from engine.inference.metadata import ExportMetadata, NetworkInfo
from engine.inference.saved_model import class_names, load_saved_model
from models import Streaming
from models.weights.download import digest

logger = logging.getLogger(__name__)
_HERE = (
    "runtime.device=auto",
    "runtime.threads=auto",
    "runtime.batchnorm=torch",
    "runtime.compile=off",
    "data.decoder=auto",
)
"""Settings of the training machine, which need not be this one, set back. Overrides take precedence."""

Step = Callable[
    ..., tuple[Tensor, ...]
]  # (frame_BCHW, *caches) -> (logits_BK, *caches); without caches for the first frame


@dataclass(frozen=True)
class Network:
    """A network on its device, ready to score clips."""

    score: Callable[[Tensor], Tensor]  # clips_BTCHW -> logits_BK
    open_stream: Callable[[], Step]  # raises ConfigError if the network needs whole clips
    info: NetworkInfo  # with the config resolved for this machine
    device: torch.device
    exported: ExportMetadata | None = None  # metadata of the file, if tools/export.py wrote it


def portable(config: Config) -> Config:
    """Return the settings of a training with the machine-dependent ones reset to defaults."""
    decoder = "jpeg" if config.data.decoder == "jpeg" else "auto"
    return configs.override(config, [*_HERE, f"data.decoder={decoder}"])


def open_network(path: str, recipe: str | None = None, overrides: Sequence[str] = ()) -> Network:
    """Open a file of tools/export.py, or a file of weights, which needs a `recipe` if this project did not write it.

    Raises CheckpointError for other files, ConfigError if a setting is wrong or not supported on this machine.
    """
    if Path(path).suffix in OPENERS and recipe:
        raise ConfigError(f"--config: {path} contains its settings; omit --config")
    network = _open_exported(path, overrides) if Path(path).suffix in OPENERS else _open_saved(path, recipe, overrides)
    if not network.info.class_names:
        logger.info(f"{path}: has no class names, so classes have numbers; data.class_names=FILE names them")
    return network


def _open_saved(path: str, recipe: str | None, overrides: Sequence[str]) -> Network:
    saved = load_saved_model(path, recipe, [*_HERE, *overrides])
    config = runtime.resolve(saved.info.config)
    device = runtime.prepare(config.runtime, config.train.seed)
    model = runtime.place(saved.model, config.runtime, device)
    return Network(model, partial(Streaming, model), replace(saved.info, config=config), device)


def _open_exported(path: str, overrides: Sequence[str]) -> Network:
    """Open a file of tools/export.py. Its precision is fixed in the file; inputs are fp32."""
    given = configs.overridden(overrides)
    device = pick_device(given.get("runtime.device", "auto"))
    exported = open_exported(path, device, onnx_provider=given.get("runtime.onnx_provider", "cuda"))
    metadata = exported.metadata
    asked = configs.override(metadata.config, [*_HERE, *overrides, "runtime.precision=fp32"])
    for what, has, wanted in (
        ("frames", metadata.config.eval_frames, asked.eval_frames),
        ("pixels a side", metadata.config.eval_size, asked.eval_size),
    ):
        if has != wanted and not (metadata.online and what == "frames"):
            raise ConfigError(f"{path}: takes clips of {has} {what}, not {wanted}; export it again for that")
    _refuse_other_network(path, metadata, asked)
    config = runtime.resolve(asked)
    device = runtime.prepare(config.runtime, config.train.seed)
    info = NetworkInfo(config, class_names(metadata.class_names, config, overrides), path, digest(Path(path)))
    return Network(exported.scores, partial(_stream_of, exported), info, device, metadata)


def _refuse_other_network(path: str, metadata: ExportMetadata, asked: Config) -> None:
    """Raise ConfigError for settings that are fixed in the exported network."""
    inside = ("model.", *(("clip.mean", "clip.std") if metadata.uint8 else ()))
    before, after = configs.flat(metadata.config), configs.flat(asked)
    for key in before:
        if key.startswith(inside) and key not in ("model.pretrained", "model.shift") and before[key] != after[key]:
            raise ConfigError(f"{key}: {path} was exported with {before[key]}, which is fixed in it; export it again")


def _stream_of(exported: ExportedNetwork) -> Step:
    """Return the step function of a file exported for streams."""
    if not exported.metadata.online:
        raise ConfigError(f"{exported.path}: was exported for clips; export it again with --online")

    def step(frame_BCHW: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        frame = exported.pixels(frame_BCHW[:, None])[:, 0] if exported.metadata.uint8 else frame_BCHW.float()
        return exported.run(frame.contiguous(), *(caches or exported.initial_caches(len(frame))))

    return step
