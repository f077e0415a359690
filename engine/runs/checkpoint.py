"""Write and read checkpoints, which survive kills during a write, bit rot and full disks.

The checkpoint and its sidecar (`checkpoint_files.py`) are written under temporary names, flushed to the disk and
renamed, the .pt last: a .pt under its final name is complete, or its sidecar shows that it is not.

`training` defines the content. Here it is a dictionary that torch's safe loader supports: tensors, numbers, text, None,
and dictionaries, lists and tuples of them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from engine.files import lack_of_room, temporary_file
from engine.outputs import Outputs
from engine.runs.checkpoint_files import damage, sidecar
from engine.runs.disk_faults import describe
from models import CheckpointError, read_file

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
