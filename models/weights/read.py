"""What a file of weights holds, read without running any code that the file may carry.

A file's kind is told by its first bytes, never by its name. Knows nothing of networks, or of what tensors are called.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from models.errors import CheckpointError, printable, some
from models.weights.paddle import join_pieces
from models.weights.pickles import read_pickle

LEGACY_TORCH = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")  # the number that torch wrote first before it wrote archives

# Classes of training logs, optimizers and arguments that checkpoints hold beside their weights. They are read as
# nothing; whatever else a file asks for says that it is no file of weights.
IGNORED = {"mmengine", "mmcv", "mmaction", "numpy", "argparse.Namespace", "builtins.getattr"}


def read_file(path: str | Path) -> object:
    """What the file holds: as a rule a dictionary, at some depth of which names have tensors, or Paddle's arrays.

    Raises CheckpointError, with one line, for what cannot be read, asks for code, or claims to be larger than it is.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file of weights; check the path")
    try:
        return _reader(path)(path)
    except CheckpointError:
        raise
    except Exception as error:  # torch alone raises a dozen kinds for damaged files
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}): it is damaged or holds more than tensors and plain "
            "values; write it again with torch.save(model.state_dict())"
        ) from error


def _reader(path: Path) -> Callable[[Path], object]:
    """The function that reads files that begin as this one does."""
    with path.open("rb") as file:
        head = file.read(64)
    if head[4:9] == b"\0\0\0\0{":  # it begins with a length, whose bytes may be those that other files begin with
        return _read_safetensors
    if head.startswith(b"PK"):
        return _read_archive
    if LEGACY_TORCH in head:
        return _read_torch
    if head.startswith(b"\x80"):
        return _read_paddle
    seen = f"begins with '{printable(head.decode(errors='replace'), 30)}'" if head else "is empty"
    raise CheckpointError(f"{path}: is no file of weights: it {seen}; if it was downloaded, download it again")


class _Nothing:
    """What is read in place of objects that are not looked at."""

    def __new__(cls, *_: object) -> "_Nothing":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def _read_archive(path: Path) -> object:
    """An archive of torch.save, which never compresses: one that grows when it is read was made to fill the memory."""
    with zipfile.ZipFile(path) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
    if claimed > path.stat().st_size:
        raise CheckpointError(f"{path}: {path.stat().st_size} bytes that claim to be {claimed}; not read")
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if asked := [name for name in unknown if not {name, name.partition(".")[0]} & IGNORED]:
        raise CheckpointError(
            f"{path}: asks for {some(asked)}, and only tensors and plain values are read; nothing was run; "
            "write it again with torch.save(model.state_dict())"
        )
    with torch.serialization.safe_globals([(_Nothing, name) for name in unknown]):
        return _read_torch(path)


def _read_torch(path: Path) -> object:
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_paddle(path: Path) -> object:
    content = read_pickle(path)
    return join_pieces(content) if isinstance(content, dict) else content


def _read_safetensors(path: Path) -> dict:
    """The tensors; where this project wrote the file, under `model`, beside its settings and class names."""
    try:
        from safetensors import safe_open
    except ImportError:
        raise CheckpointError(f"{path}: is a safetensors file; pip install safetensors to read it") from None
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
        texts = file.metadata() or {}
    if "settings" not in texts:
        return tensors
    return {"model": tensors, "config": json.loads(texts["settings"]), "class_names": json.loads(texts["class_names"])}
