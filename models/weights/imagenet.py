"""torchvision's ImageNet weights as files: downloaded once, and verified at each use by the digest in their names."""

import hashlib
from http.client import HTTPException
from pathlib import Path

import torch
from torchvision.models import get_model_weights

from configs import ConfigError
from models.errors import CheckpointError

VERSIONS = {"imagenet": "IMAGENET1K_V1", "imagenet_v2": "IMAGENET1K_V2"}  # V2: trained longer, more accurate


def weights_file(backbone: str, source: str) -> Path:
    """Return the file of a backbone's weights; download it into torch.hub's folder if it is not there yet.

    Raises ConfigError if torchvision has no such weights, and CheckpointError if the file is damaged or cannot be
    downloaded; the message then names the file and the folder to put it into.
    """
    url = _url(backbone, source)
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    digest = path.stem.rpartition("-")[2]  # torchvision's names end in the start of the sha256
    if not path.exists():
        _download(url, path, digest)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(digest):
        raise CheckpointError(
            f"{path}: damaged, its sha256 is {found[:8]}...; delete it, and it will be downloaded again"
        )
    return path


def _url(backbone: str, source: str) -> str:
    weights = get_model_weights(backbone)
    if VERSIONS[source] not in weights.__members__:
        raise ConfigError(f"model.pretrained: torchvision has no {source} weights of {backbone}; take `imagenet`")
    return weights[VERSIONS[source]].url


def _download(url: str, path: Path, digest: str) -> None:
    """Download a file completely, or leave nothing behind."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=False)
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the digest differs
        raise CheckpointError(
            f"{url}: cannot be downloaded ({error}); put {path.name} into {path.parent}, or set model.pretrained=none"
        ) from error
