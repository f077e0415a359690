"""torchvision's ImageNet weights as files: downloaded once, and verified at each use by the digest in their names."""

from pathlib import Path

from torchvision.models import get_model_weights

from configs import ConfigError
from models.weights import zoo
from models.weights.download import download

CLASSES = 1000
VERSIONS = {"imagenet": "IMAGENET1K_V1", "imagenet_v2": "IMAGENET1K_V2"}  # V2: trained longer, more accurate
INSTEAD = ", or set model.pretrained=none"


def weights_file(backbone: str, source: str) -> Path:
    """Return the file of a backbone's weights; download it if it is not there yet.

    Raises ConfigError if torchvision has no such weights, and CheckpointError if the file is damaged or cannot be
    downloaded; the message then names the file and the folder to put it into.
    """
    url = _url(backbone, source)
    name = Path(url).name
    digest = Path(name).stem.rpartition("-")[2]  # torchvision's names end in the start of the sha256
    return zoo.verified(download(url, zoo.folder() / name, digest, INSTEAD), digest)


def _url(backbone: str, source: str) -> str:
    weights = get_model_weights(backbone)
    if VERSIONS[source] not in weights.__members__:
        raise ConfigError(f"model.pretrained: torchvision has no {source} weights of {backbone}; use `imagenet`")
    return weights[VERSIONS[source]].url
