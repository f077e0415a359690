"""torchvision's ImageNet weights as files: downloaded once, and verified each time by the digest in their names."""

import hashlib
from http.client import HTTPException
from pathlib import Path

import torch
from torchvision.models import get_model_weights

from configs import ConfigError
from models.errors import CheckpointError

VERSIONS = {"imagenet": "IMAGENET1K_V1", "imagenet_v2": "IMAGENET1K_V2"}  # V2: a longer recipe, and better weights


def weights_file(backbone: str, source: str) -> Path:
    """The file of a backbone's weights, downloaded into torch.hub's folder unless it is there.

    Raises ConfigError where torchvision has no such weights, CheckpointError, saying which file belongs where, where
    they cannot be downloaded or are damaged.
    """
    url = _url(backbone, VERSIONS[source])
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if not path.exists():
        _download(url, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(path.stem.rpartition("-")[2]):
        raise CheckpointError(f"{path}: damaged, its sha256 is {digest[:8]}...; delete it, it is downloaded again")
    return path


def _url(backbone: str, version: str) -> str:
    weights = get_model_weights(backbone)
    if version not in weights.__members__:
        raise ConfigError(f"model.pretrained: torchvision has no second weights of {backbone}; take `imagenet`")
    return weights[version].url


def _download(url: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except (OSError, HTTPException) as error:
        raise CheckpointError(
            f"{url}: cannot be downloaded ({error}); put {path.name} into {path.parent}, or set model.pretrained=none"
        ) from error
