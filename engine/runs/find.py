"""Find the file of a network by the name of a run's folder, of a checkpoint or of an exported file."""

from __future__ import annotations

import logging
from pathlib import Path

from configs import ConfigError
from engine.runs import checkpoint
from models.weights import zoo

logger = logging.getLogger(__name__)
BEST, LAST = "best.pt", "last.pt"


def network_file(name: str | Path) -> Path:
    """Return the file of the network that `name` stands for: itself, or in a run's folder the best or newest weights.

    A `zoo:` name stands for a file that is downloaded. Raises ConfigError if there is no such file, or a folder holds
    no network, and CheckpointError if it cannot be downloaded.
    """
    path = zoo.local(name)
    if not path.exists():
        raise ConfigError(f"{path}: there is neither a run nor a file of weights with this name; check the path")
    if not path.is_dir():
        return path
    newest = checkpoint.steps(path / "checkpoints")[:1]
    for candidate in (path / BEST, path / LAST, *newest):
        if candidate.is_file():
            if candidate.name != BEST:
                logger.info(f"{path}: has no {BEST}, which needs data.val in training; taking {candidate}")
            return candidate
    if (path / "status.json").exists():
        raise ConfigError(f"{path}: this run has saved no network yet; `python tools/status.py {path}` says how it is")
    raise ConfigError(f"{path}: holds no network; name a file of weights, or a run's folder such as runs/NAME")
