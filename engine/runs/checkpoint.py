"""Checkpoints that survive kills during a write, bit rot and full disks.

A checkpoint consists of `step-00001240.pt` and `step-00001240.pt.json` with its size and sha256, because torch.load
detects neither flipped bits nor zeroed pages. Both are written under temporary names, flushed to the disk and renamed,
the .pt last: a .pt under its final name is complete, or its sidecar shows that it is not.

`training` defines the content. Here it is a dictionary that torch's safe loader supports: tensors, numbers, text, None,
and dictionaries, lists and tuples of them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from engine import files
from engine.files import lack_of_room, read_json, temporary_file
from engine.output_record import is_recorded, is_result
from engine.outputs import Outputs
from engine.runs.disk_faults import describe
from models import CheckpointError, read_file

NAME = re.compile(r"step-(\d{8})\.pt")
logger = logging.getLogger(__name__)
SPARE = 1.2  # required free space, as a multiple of the tensors' size


class _Hashing:
    """A file that hashes the data written to it. torch.save writes sequentially."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._sha256 = hashlib.sha256()
        self._bytes = 0

    def write(self, data) -> int:
        self._sha256.update(data)
        self._bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def facts(self) -> dict:
        """Return digest and size of the written data, for the sidecar."""
        return {"sha256": self._sha256.hexdigest(), "bytes": self._bytes}


def step_file(folder: Path, step: int) -> Path:
    """Return the path of a step's checkpoint."""
    return folder / f"step-{step:08d}.pt"


def save(path: Path, payload: dict, outputs: Outputs | None = None, **note: object) -> None:
    """Write a checkpoint; `note` is stored in the sidecar, for people. Raises CheckpointError.

    This fails for weights that are not finite (resuming from them would be useless), for a disk without enough space,
    and if `outputs` must not overwrite an existing file (ConfigError).
    """
    outputs = outputs or Outputs()
    outputs.check(path, sidecar(path))
    _refuse_nonfinite(payload, path)
    try:
        _refuse_full_disk(path.parent, payload)
        with temporary_file(path.parent, "wb") as (made, file):
            hashing = _Hashing(file)
            torch.save(payload, hashing)
            file.flush()
            os.fsync(file.fileno())
            outputs.write({sidecar(path): json.dumps({**hashing.facts(), **note}, indent=1)})
            outputs.place(made, path, hashing.facts()["sha256"])
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise CheckpointError(f"{describe(path, error)}; {_need(payload) / 2**20:,.1f} MiB are needed") from error


def load(path: Path) -> dict:
    """Verify a checkpoint and return its content, on the host. Raises CheckpointError."""
    if problem := damage(path):
        raise CheckpointError(f"{path}: {problem}; resume from another checkpoint")
    try:
        return read_file(path)  # the safe loader runs no code of the file
    except CheckpointError as error:
        raise CheckpointError(f"{error}; resume from another checkpoint") from error


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


def note(path: Path) -> dict:
    """Read the sidecar; return an empty dictionary if there is none."""
    try:
        content = read_json(sidecar(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def steps(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, newest first."""
    return sorted((path for path in folder.glob("step-*.pt") if NAME.fullmatch(path.name)), reverse=True)


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


def sidecar(path: Path) -> Path:
    """Return the path of the file with size and sha256 of a checkpoint."""
    return path.with_name(f"{path.name}.json")


def _sync_folder(folder: Path) -> None:
    """Flush the renames to the disk. Some network file systems (CIFS) cannot flush folders."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(descriptor)


def named_tensors(content: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a checkpoint's content with their names, such as `model.fc.weight`."""
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, dict | list | tuple):
        entries = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in entries:
            yield from named_tensors(value, f"{name}.{key}" if name else str(key))


def first_nonfinite(content: object) -> str | None:
    """Return the name of the first tensor with a value that is not finite, or None. Waits for the device once."""
    tensors = {name: tensor for name, tensor in named_tensors(content) if tensor.is_floating_point()}
    if not tensors:
        return None
    finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).tolist()
    return None if all(finite) else list(tensors)[finite.index(False)]


def _refuse_nonfinite(payload: dict, path: Path) -> None:
    if broken := first_nonfinite(payload):
        raise CheckpointError(f"{path}: not written, because {broken} contains values that are not finite")


def _refuse_full_disk(folder: Path, payload: dict) -> None:
    if problem := lack_of_room(folder, _need(payload), "a checkpoint"):
        raise CheckpointError(problem)


def _need(payload: dict) -> int:
    """Return an upper bound of the bytes of a file with this content."""
    return int(SPARE * sum(tensor.nbytes for _, tensor in named_tensors(payload)))
