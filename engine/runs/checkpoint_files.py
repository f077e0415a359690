"""The files of checkpoints: names, sidecars, damage, and the newest that is intact.

A checkpoint consists of `step-00001240.pt` and `step-00001240.pt.json` with its size and sha256, because torch.load
detects neither flipped bits nor zeroed pages. `checkpoint.py` writes and reads them. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from pathlib import Path

from engine import files
from engine.files import read_json
from engine.output_record import is_recorded, is_result
from models import CheckpointError

NAME = re.compile(r"step-(\d{8})\.pt")
logger = logging.getLogger(__name__)


def step_file(folder: Path, step: int) -> Path:
    """Return the path of a step's checkpoint."""
    return folder / f"step-{step:08d}.pt"


def sidecar(path: Path) -> Path:
    """Return the path of the file with size and sha256 of a checkpoint."""
    return path.with_name(f"{path.name}.json")


def steps(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, newest first."""
    return sorted((path for path in folder.glob("step-*.pt") if NAME.fullmatch(path.name)), reverse=True)


def note(path: Path) -> dict:
    """Read the sidecar; return an empty dictionary if there is none."""
    try:
        content = read_json(sidecar(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def damage(path: Path) -> str | None:
    """Return a description of the damage of a checkpoint's files, or None."""
    try:
        facts = read_json(sidecar(path))
        size, sha256 = facts["bytes"], facts["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"its sidecar {sidecar(path).name} is missing or unreadable"
    if not path.is_file():
        return "there is no such file"
    if path.stat().st_size != size:
        return f"has {path.stat().st_size} bytes instead of {size}"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return None if found == sha256 else "is damaged: its sha256 is not the one it was written with"


def latest(folder: Path) -> Path | None:
    """Return the newest undamaged checkpoint, or None if there are none. Raises CheckpointError if all are damaged."""
    candidates = steps(folder)
    passed_over = []
    for path in candidates:
        problem = damage(path)
        if problem is None:
            if passed_over:
                logger.warning(f"falling back to {path}: {'; '.join(passed_over)}")
            return path
        passed_over.append(f"{path.name} {problem}")
    if candidates:
        raise CheckpointError(f"{folder}: no checkpoint is intact: {'; '.join(passed_over)}; start over in another run")
    return None


def set_aside_newer(path: Path) -> None:
    """Rename the checkpoints newer than `path`, which `latest` found damaged, so that it ignores them."""
    for newer in steps(path.parent):
        if newer > path and is_recorded(newer):
            set_aside(newer)


def set_aside(path: Path) -> None:
    """Rename a damaged checkpoint to an unused name."""
    names = (path.with_name(f"{path.name}.damaged{number}") for number in ["", *map("-{}".format, range(2, 1000))])
    path.rename(next(name for name in names if not os.path.lexists(name)))


def tidy(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints of a run, and leftovers of killed writers."""
    remove_leftovers(folder)
    _remove([file for old in steps(folder)[keep:] for file in (old, sidecar(old)) if is_result(file)])


def remove_leftovers(folder: Path) -> None:
    """Remove leftovers of killed writers: unfinished files, and sidecars without a checkpoint."""
    files.remove_leftovers(folder)
    _remove([path for path in folder.glob("step-*.pt.json") if not path.with_suffix("").exists() and is_result(path)])


def _remove(paths: list[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning(f"{path} cannot be removed: {error.strerror}")
