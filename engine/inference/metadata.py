"""Metadata of a network's file: settings, class names, origin; for exported files also inputs and precision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, get_args

import configs
from configs import Config
from engine.files import parse_json

Precision = Literal["fp32", "fp16", "bf16"]
PRECISIONS = get_args(Precision)
ENDINGS = {  # file extensions by format
    "onnx": ".onnx",
    "export": ".pt2",
    "aoti": ".aoti.pt2",
    "safetensors": ".safetensors",
    "tensorrt": ".engine",
}


@dataclass(frozen=True)
class NetworkInfo:
    """The settings and class names of a network, and its file."""

    config: Config  # settings of its training; the eval section defines the views
    class_names: tuple[str, ...]  # by label; empty if unknown
    weights: str  # path or name of the file
    sha256: str  # sha256 of the file

    def name(self, label: int) -> str:
        """Return the name of a class, or its number if it has no name."""
        return self.class_names[label] if label < len(self.class_names) else str(label)


@dataclass(frozen=True)
class ExportMetadata(NetworkInfo):
    """Metadata in an exported file. `weights` and `sha256` are those of the exported checkpoint.

    Every format stores it as JSON texts by name, so that programs without this project can read it.
    """

    precision: Precision  # internal precision; inputs and outputs are fp32
    uint8: bool  # the input is uint8 pixels, which the network normalises
    caches: tuple[tuple[int, int, int], ...]  # C H W of a stream's caches; empty if the input is clips
    made_with: dict[str, str | None]  # library versions, and the project's commit

    @property
    def online(self) -> bool:
        """Return True if the input is single frames of streams."""
        return bool(self.caches)

    def to_texts(self) -> dict[str, str]:
        """Return the metadata as stored in files. Sizes and normalisation of the input have separate entries."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "config"} | {
            "settings": configs.flat(self.config),
            "fingerprint": configs.fingerprint(self.config),
            "frames": self.config.eval_frames,
            "size": self.config.eval_size,
            "mean": self.config.clip.mean,
            "std": self.config.clip.std,
            "online": self.online,
        }
        return {name: json.dumps(value) for name, value in values.items()}

    def to_json(self) -> str:
        """Return the metadata as one JSON object, for formats that cannot store metadata."""
        return json.dumps({name: json.loads(text) for name, text in self.to_texts().items()}, indent=1)

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> ExportMetadata:
        """Parse the output of `to_texts`. Raises KeyError, TypeError or ValueError for anything else."""
        values = {field.name: parse_json(texts[field.name]) for field in fields(cls) if field.name != "config"}
        values["config"] = configs.from_flat(parse_json(texts["settings"]))
        values["class_names"] = tuple(values["class_names"])
        values["caches"] = tuple(map(tuple, values["caches"]))
        return cls(**values)
