"""Published weights by name: `zoo:tsm_r50_k400_8f_mit` stands for a file that is downloaded once.

The table is `zoo.jsonl`, one line of JSON an entry, copied from the pages of those who published the files;
`tools/zoo.py` lists it. Files lie in torch.hub's folder of downloads, which torchvision and mmaction2 use as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import torch
from torchvision.models import get_weight
from torchvision.models.video import R3D_18_Weights

import configs
from configs import Config, ConfigError
from configs.sections.model import ZOO
from models.errors import CheckpointError
from models.weights.download import digest, download

TABLE = Path(__file__).with_name("zoo.jsonl")
PREFIX = ZOO
TORCHVISION = "torchvision:"
IMAGENET = "ImageNet"
ALPHABETICAL = ("mmaction2 1.x", "mmaction2 0.x", "PaddleVideo")
"""Projects that number the classes of Kinetics-400 by the alphabet. MIT's file of their order was not at hand."""


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    name: str
    source: str
    """The project that published it."""
    data: str
    """The data set that it was trained on."""
    url: str
    """Empty: of this project, and not yet trained. In the table `torchvision:WEIGHTS`, for what torchvision names."""
    sha256: str
    """The digits of the digest that were published, in mmaction2's and torchvision's case in the name of the file."""
    recipe: str
    """The recipe whose network it is; empty for ImageNet weights, which have no temporal part."""
    settings: list[str]
    """Overrides of the recipe."""
    top1: float | None
    """Published top-1 accuracy in percent, under `protocol`."""
    protocol: str

    @property
    def path(self) -> Path:
        """Return the file's place on this machine."""
        return folder() / Path(self.url).name

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes by label; empty where the order of the file's classes is not known for sure.

        The files hold no names, so they are those that torchvision has for its own networks, in the same order.
        """
        if self.data == "Kinetics-400" and self.source in ALPHABETICAL:
            return tuple(R3D_18_Weights.KINETICS400_V1.meta["categories"])
        return ()

    def config(self) -> Config:
        """Return the settings of the network, its clips and its views. Raises ConfigError for ImageNet weights."""
        if not self.recipe:
            raise ConfigError(
                f"{PREFIX}{self.name}: contains no classes of actions; train from it with "
                f"model.pretrained={PREFIX}{self.name}"
            )
        return configs.load(self.recipe, self.settings)


def folder() -> Path:
    """Return the folder of downloads: `hub/checkpoints` in $TORCH_HOME, by default ~/.cache/torch."""
    return Path(torch.hub.get_dir(), "checkpoints")


@cache
def entries() -> dict[str, Entry]:
    """Return the table by name."""
    rows = map(json.loads, TABLE.read_text(encoding="utf-8").splitlines())
    return {row["name"]: Entry(**(row | _of_torchvision(row["url"]))) for row in rows}


def _of_torchvision(url: str) -> dict[str, str]:
    """Return address and digest of weights that torchvision names, and nothing for an address."""
    if not url.startswith(TORCHVISION):
        return {}
    address = get_weight(url.removeprefix(TORCHVISION)).url
    return {"url": address, "sha256": Path(address).stem.rpartition("-")[2]}


def find(name: str) -> Entry:
    """Return the entry of this name. Raises ConfigError, with similar names, if there is none."""
    name = name.removeprefix(PREFIX)
    if name in entries():
        return entries()[name]
    near = get_close_matches(name, entries(), 3)
    hint = f"did you mean {' or '.join(near)}?" if near else "python tools/zoo.py lists all names"
    raise ConfigError(f"{PREFIX}{name}: no such entry of the zoo; {hint}")


def entry_of(path: Path) -> Entry | None:
    """Return the entry of a file in the folder of downloads, or None for any other file."""
    if path.parent.absolute() != folder().absolute():
        return None
    return next((entry for entry in entries().values() if entry.url and entry.path.name == path.name), None)


def class_names(path: Path) -> tuple[str, ...]:
    """Return the names of the classes of a file in the folder of downloads; empty if they are not known."""
    entry = entry_of(path)
    return entry.class_names if entry else ()


def local(source: str | Path) -> Path:
    """Return the file that `zoo:NAME` stands for, downloaded if it is not there; any other source is a path itself.

    Raises ConfigError if there is no such name or it is not yet trained, and CheckpointError if the file cannot be
    downloaded or has changed since.
    """
    if not str(source).startswith(PREFIX):
        return Path(source)
    entry = find(str(source))
    if not entry.url:
        others = [other.name for other in entries().values() if other.name.startswith(f"{entry.name}_")]
        remedy = f"take {PREFIX}{others[0]}, or " if others else ""
        raise ConfigError(f"{PREFIX}{entry.name}: not yet trained; {remedy}train it with --config {entry.recipe}.yaml")
    return verified(download(entry.url, entry.path, entry.sha256), entry.sha256)


def verified(path: Path, sha256: str) -> Path:
    """Return a downloaded file whose digest is the published one, or without one that of its first use.

    Raises CheckpointError if it is not. The digest of the first use is kept as `NAME.sha256`, as `sha256sum -c` reads.
    """
    noted = path.with_name(f"{path.name}.sha256")
    expected = sha256 or (noted.read_text().split()[0] if noted.is_file() else "")
    found = digest(path)
    if not expected:
        noted.write_text(f"{found}  {path.name}\n")
    if not found.startswith(expected):
        raise CheckpointError(
            f"{path}: damaged, its sha256 is {found[:8]}...; delete it, and it will be downloaded again"
        )
    return path
