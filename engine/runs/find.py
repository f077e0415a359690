"""Find the file of a network by a run's folder, a checkpoint or an exported file."""

from __future__ import annotations

import logging
from pathlib import Path

from configs import ConfigError, cli
from engine.runs import checkpoint_files
from models.weights import zoo

logger = logging.getLogger(__name__)
BEST, LAST = "best.pt", "last.pt"


def network_file(name: str | Path) -> Path:
    """Return the file of a network: `name` itself, or the best or newest weights in a run's folder.

    The file of a `zoo:` name is downloaded. Raises ConfigError if there is no such file, or a folder contains no
    network, and CheckpointError if the download fails.
    """
    path = zoo.local(name)
    cli.refuse_missing_network(path)
    if not path.is_dir():
        return path
    newest = checkpoint_files.steps(path / "checkpoints")[:1]
    for candidate in (path / BEST, path / LAST, *newest):
        if candidate.is_file():
            if candidate.name != BEST:
                logger.info(f"{path}: has no {BEST}, which needs data.val in training; using {candidate}")
            return candidate
    if (path / "status.json").exists():
        raise ConfigError(f"{path}: this run has saved no network yet; see `python tools/status.py {path}`")
    raise ConfigError(f"{path}: contains no network; name a file of weights, or a run's folder such as runs/NAME")
