"""A network in use on this machine, whatever kind of file it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import configs
from configs import Config, ConfigError
from configs.schema import Runtime
from engine import runtime
from engine.inference.exported import OPENERS, Deployed, open_deployed
from engine.inference.saved_model import class_names, load_saved_model
from models import Streaming

_HERE = (
    "runtime.device=auto",
    "runtime.threads=auto",
    "runtime.batchnorm=torch",
    "runtime.compile=off",
    "data.decoder=auto",
)
"""Settings that suit the machine of a training, which need not be this one. Overrides win over them."""


Step = Callable[..., tuple[Tensor, ...]]  # (frame_BCHW, *caches) -> (logits_BK, *caches); at first without caches


@dataclass(frozen=True)
class Network:
    """Ready to score clips."""

    score: Callable[[Tensor], Tensor]  # clips_BTCHW -> logits_BK
    open_stream: Callable[[], Step]  # raises ConfigError where the network needs whole clips
    config: Config  # resolved; its eval section says which views of a video to score
    class_names: tuple[str, ...]  # by label; empty where they are not known
    device: torch.device
    sha256: str  # of its file

    def name(self, label: int) -> str:
        """The class's name, or its number where names are not known."""
        return self.class_names[label] if self.class_names else str(label)


def open_network(
    path: str, recipe: str | None = None, overrides: Sequence[str] = (), say: Callable[[str], None] = print
) -> Network:
    """The network in a file of weights, which needs a `recipe` if it is not ours, or in one of tools/export.py.

    Raises CheckpointError for a file that is neither, ConfigError where a setting is wrong or cannot be had here.
    """
    if Path(path).suffix in OPENERS:
        if recipe:
            raise ConfigError(f"--config: {path} holds its own settings; leave the recipe out")
        return _open_deployed(path, overrides, say)
    if "data.decoder=jpeg" in overrides:
        raise ConfigError("data.decoder: jpeg reads folders of pictures, and here videos are read; take auto")
    saved = load_saved_model(path, recipe, [*_HERE, *overrides])
    config = runtime.resolve(saved.config, say)
    device = runtime.prepare(config.runtime, config.train.seed)
    model = runtime.place(saved.model, config.runtime, device)
    return Network(model, partial(Streaming, model), config, saved.class_names, device, _sha256(path))


def _open_deployed(path: str, overrides: Sequence[str], say: Callable[[str], None]) -> Network:
    """The network in a file of tools/export.py. What it computes in is settled in the file; numbers go in as fp32."""
    on_cpu = "runtime.device=cpu" in overrides
    deployed = open_deployed(path, "cpu" if on_cpu else runtime.pick_device(Runtime()), say)
    asked = configs.override(deployed.settings, [*_HERE, *overrides, "runtime.precision=fp32"])
    for what, has, wanted in (
        ("frames", deployed.settings.eval_frames, asked.eval_frames),
        ("pixels a side", deployed.settings.eval_size, asked.eval_size),
    ):
        if has != wanted and not (deployed.online and what == "frames"):
            raise ConfigError(f"{path}: takes clips of {has} {what}, not {wanted}; export it again for that")
    config = runtime.resolve(asked, say)
    device = runtime.prepare(config.runtime, config.train.seed)
    names = class_names(deployed.class_names, config, overrides)
    return Network(deployed.scores, partial(_stream_of, deployed), config, names, device, _sha256(path))


def _stream_of(deployed: Deployed) -> Step:
    """The steps of a file that was exported for streams."""
    if not deployed.online:
        raise ConfigError(f"{deployed.path}: was exported for clips; export it again with --online")

    def step(frame_BCHW: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        frame = deployed.pixels(frame_BCHW[:, None])[:, 0] if deployed.uint8 else frame_BCHW.float()
        return deployed.run(frame.contiguous(), *(caches or deployed.initial_caches(len(frame))))

    return step


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
