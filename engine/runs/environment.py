"""Describe the environment of a result: library versions, commit, machine and time."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dali_pipes.device import usable_cores

PACKAGES = ("tsm-dali", "torch", "torchvision", "nvidia-dali-cuda130", "nvidia-dali-cuda120", "av", "numpy")


def now() -> str:
    """Return the time in UTC, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def environment() -> dict:
    """Return the library versions, the commit and the machine."""
    import torch  # its import takes seconds, and --help of benchmarks must be fast

    from models.shift import measured

    gpu = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "gpus": torch.cuda.device_count(),
        "cpu": measured.processor(),
        "cores": usable_cores(),
        "platform": platform.platform(),
        **_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> dict:
    """Return the commit of this code and if files differ from it; a copy without git may have it in $COMMIT."""

    def git(*words: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": os.environ.get("COMMIT"), "dirty": None}
