"""What a deployed file says of itself: how to feed it, what its answers mean, where it comes from.

Every format keeps a card as texts by name, each a JSON value, so that programs without this project can read it too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import configs
from configs import Config

Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class Card:
    """The card of one file."""

    settings: Config  # of the training; its eval section says which views of a video to score
    class_names: tuple[str, ...]  # by label; empty where they are not known
    precision: Precision  # of the network inside; numbers go in and come out as fp32
    uint8: bool  # pixels go in, and are normalised inside
    online: bool  # one frame goes in, and the caches of the frames before it
    weights: str  # name of the file that was exported
    sha256: str  # of that file
    made_with: dict[str, str | None]  # versions, and the project's commit

    def to_texts(self) -> dict[str, str]:
        """The card as files keep it. What is needed to feed a file also stands outside the settings, in plain words."""
        config = self.settings
        said = {
            "class_names": self.class_names,
            "frames": config.eval_frames,
            "size": config.eval_size,
            "mean": config.clip.mean,
            "std": config.clip.std,
            "precision": self.precision,
            "uint8": self.uint8,
            "online": self.online,
            "settings": configs.flat(config),
            "fingerprint": configs.fingerprint(config),
            "weights": self.weights,
            "sha256": self.sha256,
            "made_with": self.made_with,
        }
        return {name: json.dumps(value, ensure_ascii=False) for name, value in said.items()}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> Card:
        """The card that `to_texts` wrote down. Raises KeyError or ValueError where it did not."""
        said = {name: json.loads(texts[name]) for name in cls.__dataclass_fields__}
        said["settings"] = configs.from_flat(said["settings"])
        said["class_names"] = tuple(said["class_names"])
        return cls(**said)
