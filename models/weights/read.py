"""Reads files of weights without running code from them.

The first bytes tell the kind of a file, not its name. This module knows nothing of networks or of tensors' names.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from models.errors import CheckpointError, printable, some
from models.weights.paddle import join_pieces
from models.weights.pickles import read_pickle

LEGACY_TORCH = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")  # the first value in torch files from before version 1.6

# Modules and names of training logs, optimizers and arguments that checkpoints hold besides weights. Such objects are
# read as _IgnoredObject; a file that asks for anything else is refused.
IGNORED = {"mmengine", "mmcv", "mmaction", "numpy", "argparse.Namespace", "builtins.getattr"}


def read_file(path: str | Path) -> object:
    """Return the content of a file: usually a dictionary with tensors or Paddle's arrays at some depth.

    Raises CheckpointError, with one line, if the file cannot be read, asks for code, or claims to be larger than it is.
    """
    path = Path(path)
    if not path.is_file():
        folder = "is a folder; name a file in it, such as best.pt"
        raise CheckpointError(
            f"{path}: {folder if path.is_dir() else 'there is no such file of weights; check the path'}"
        )
    try:
        return _reader(path)(path)
    except CheckpointError:
        raise
    except Exception as error:  # torch alone raises a dozen kinds for damaged files
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}): it is damaged or contains more than tensors and plain "
            "values; write it again with torch.save(model.state_dict())"
        ) from error


def _reader(path: Path) -> Callable[[Path], object]:
    """Return the function that reads files with these first bytes."""
    with path.open("rb") as file:
        head = file.read(64)
    if head[4:9] == b"\0\0\0\0{":  # a length comes first, which may equal the mark of another kind
        return _read_safetensors
    if head.startswith(b"PK"):
        return _read_archive
    if LEGACY_TORCH in head:
        return _read_torch
    if head.startswith(b"\x80"):
        return _read_paddle
    seen = f"begins with '{printable(head.decode(errors='replace'), 30)}'" if head else "is empty"
    raise CheckpointError(f"{path}: is not a file of weights: it {seen}; if it was downloaded, download it again")


class _IgnoredObject:
    """Replaces objects of a file that are not needed."""

    def __new__(cls, *_: object) -> "_IgnoredObject":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def check_archive(path: Path) -> None:
    """Raise CheckpointError if an archive would grow when it is read: torch never compresses one."""
    with zipfile.ZipFile(path) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
    if claimed > path.stat().st_size:
        raise CheckpointError(
            f"{path}: has {path.stat().st_size} bytes that unpack to {claimed}, which torch.save never writes; not read"
        )


def _read_archive(path: Path) -> object:
    """Read an archive of torch.save."""
    check_archive(path)
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if asked := [name for name in unknown if not {name, name.partition(".")[0]} & IGNORED]:
        raise CheckpointError(
            f"{path}: asks for {some(asked)}, and only tensors and plain values are read; nothing was run; "
            "write it again with torch.save(model.state_dict())"
        )
    with torch.serialization.safe_globals([(_IgnoredObject, name) for name in unknown]):
        return _read_torch(path)


def _read_torch(path: Path) -> object:
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_paddle(path: Path) -> object:
    content = read_pickle(path)
    return join_pieces(content) if isinstance(content, dict) else content


def _read_safetensors(path: Path) -> dict:
    """Read safetensors; in files of this project the tensors are under `model`, with `config` and `class_names`."""
    try:
        from safetensors import safe_open
    except ImportError:
        raise CheckpointError(
            f"{path}: is a safetensors file; install safetensors to read it (pip install safetensors)"
        ) from None
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dictionary
        texts = file.metadata() or {}
    if "settings" not in texts:
        return tensors
    return {"model": tensors, "config": json.loads(texts["settings"]), "class_names": json.loads(texts["class_names"])}
