"""What a deployed file says of itself: how to feed it, what its answers mean, where it comes from.

Every format keeps a card as texts by name, each a JSON value, so that programs without this project can read it too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, get_args

import configs
from configs import Config

Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True)
class ExportMetadata:
    """The card of one file."""

    settings: Config  # of the training; its eval section says which views of a video to score
    class_names: tuple[str, ...]  # by label; empty where they are not known
    precision: Precision  # of the network inside; whatever goes in and comes out is fp32
    uint8: bool  # pixels go in, and are normalised inside
    caches: tuple[tuple[int, int, int], ...]  # C H W of what a stream keeps; empty where clips go in, not frames
    weights: str  # name of the file that was exported
    sha256: str  # of that file
    made_with: dict[str, str | None]  # versions, and the project's commit

    @property
    def online(self) -> bool:
        """Whether frames of streams go in, one at a time."""
        return bool(self.caches)

    def to_texts(self) -> dict[str, str]:
        """The card as files keep it. What is needed to feed a file also stands outside the settings, in plain words."""
        config = self.settings
        said = {field.name: getattr(self, field.name) for field in fields(self)} | {
            "settings": configs.flat(config),
            "fingerprint": configs.fingerprint(config),
            "frames": config.eval_frames,
            "size": config.eval_size,
            "mean": config.clip.mean,
            "std": config.clip.std,
            "online": self.online,
        }
        return {name: json.dumps(value, ensure_ascii=False) for name, value in said.items()}

    def to_json(self) -> str:
        """The card as one JSON object, for formats without a place for it."""
        return json.dumps({name: json.loads(text) for name, text in self.to_texts().items()}, indent=1)

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> ExportMetadata:
        """The card that `to_texts` wrote down. Raises KeyError or ValueError where it did not."""
        said = {field.name: json.loads(texts[field.name]) for field in fields(cls)}
        said["settings"] = configs.from_flat(said["settings"])
        said["class_names"] = tuple(said["class_names"])
        said["caches"] = tuple(map(tuple, said["caches"]))
        return cls(**said)


ENDINGS = {  # of the files' names, by format
    "onnx": ".onnx",
    "export": ".pt2",
    "aoti": ".aoti.pt2",
    "safetensors": ".safetensors",
    "tensorrt": ".engine",
}
PRECISIONS = get_args(Precision)
