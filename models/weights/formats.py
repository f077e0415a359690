"""Recognises a checkpoint's project by the names of its tensors, and renames the tensors to torchvision's names.

Each format is a row of `FORMATS`: a pattern that identifies it, and a renaming. This module knows no networks.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.errors import CheckpointError, printable, some
from models.weights import mmaction, mobilenet_names, paddle

Weights = dict[str, Tensor]
Rename = Callable[[str], str]

WRAPPERS = ("ema", "model_ema", "state_dict_ema", "model", "state_dict")  # EMA weights are preferred
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile and Lightning
# MIT and mmaction2 wrap shifted layers in a module with the layer as its `net`.
SHIFTED = re.compile(r"(?<=conv1)\.net|(?<=conv1\.conv)\.net|(?<=conv\.0)\.net")


@dataclass(frozen=True)
class Format:
    """The names that one project gives to the tensors of one kind of network."""

    name: str
    mark: str
    """A pattern at the start of some tensor's name, which no format further down in the table has."""
    rename: Rename
    marks_shifts: bool = False
    """True if the names tell which layers read shifted input."""
    transposes: tuple[str, ...] = ()
    """Tensors that are stored transposed, by torchvision's names."""


@dataclass(frozen=True)
class Found:
    """The tensors of a file under torchvision's names."""

    format: str
    weights: Weights
    shifts: frozenset[str] | None = None
    """The layers that read shifted input; None if the format does not tell."""
    converted: tuple[str, ...] = ()
    """Conversions of the values, in words."""
    settings: dict[str, object] = field(default_factory=dict)
    """The training settings by `section.key`, if the file has them."""


def _by_rules(*rules: tuple[str, str | Callable[[re.Match], str]]) -> Rename:
    """Return a renaming that applies each (pattern, replacement) in turn."""

    def rename(key: str) -> str:
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        return key

    return rename


def _by_modules(prefixes: str, names: dict[str, str]) -> Rename:
    """Return a renaming that removes a prefix and looks up the name of the module."""

    def rename(key: str) -> str:
        module, _, leaf = re.sub(f"^({prefixes})\\.", "", key).rpartition(".")
        return f"{names.get(module, module)}.{leaf}"

    return rename


_MIT = _by_rules((r"^base_model\.", ""), (r"^new_fc\.", "fc."), (r"\.block\.", "."))

FORMATS = (
    Format(
        "MIT TSM",
        r"base_model\.features\.|features\.2\.conv\.6\.",
        _by_modules("base_model", mobilenet_names.mit()),
        marks_shifts=True,
    ),
    Format("MIT TSM", r"base_model\.|new_fc\.", _MIT, marks_shifts=True),
    Format(
        "mmaction2",
        r"(backbone\.)?conv2\.conv\.",
        _by_modules("backbone|cls_head", mobilenet_names.mmaction()),
        marks_shifts=True,
    ),
    Format("mmaction2", r"backbone\.(conv1|layer1)\.|cls_head\.", _by_rules(*mmaction.RULES), marks_shifts=True),
    Format("PaddleVideo", r"(backbone\.)?conv\._conv\.", _by_rules(*paddle.RULES), transposes=("fc.weight",)),
    Format("PaddleVideo", r"(backbone\.)?conv1_1\._conv\.", _by_rules(*paddle.VD_RULES), transposes=("fc.weight",)),
    Format("timm", r"conv_stem\.", _by_modules("model", mobilenet_names.timm())),
    Format("torchvision", r"", lambda key: key),
)


def recognise(content: object, path: Path) -> Found:
    """Return the tensors in a file's content under torchvision's names. Raises CheckpointError if it has none."""
    entries = content if isinstance(content, dict) else {}
    present = [wrapper for wrapper in WRAPPERS if entries.get(wrapper)]
    for wrapper in (*present, None):
        if weights := _tensors(entries.get(wrapper) if wrapper else entries):
            plain = mmaction.without_copies(weights)
            found = _renamed(_format_of(plain), plain, path)
            if copies := len(weights) - len(plain):
                remark = f"without {copies} tensors ema_*, a second copy of the weights that mmcv does not test"
                found = replace(found, converted=(remark, *found.converted))
            if wrapper and (others := [name for name in present if name != wrapper]):
                remark = f"those under {wrapper!r}, not those under {', '.join(map(repr, others))}"
                found = replace(found, converted=(remark, *found.converted))
            if found.format == "mmaction2":
                mmaction.refuse_other_attention(found.weights, entries.get("meta"), path)
                found = replace(found, settings=mmaction.settings_in(entries.get("meta")))
            if (settings := own_settings(content)) is not None:
                found = replace(found, format="checkpoint of a run", settings=settings)
            return found
    seen = f"a dictionary of {some(entries)}" if entries else f"a {printable(content)}"
    known = ", ".join(dict.fromkeys(row.name for row in FORMATS))
    raise CheckpointError(f"{path}: contains {seen}; formats that can be read: {known}")


def own_settings(content: object) -> dict | None:
    """Return the settings in a file of this project; None for others, which may have something else of that name."""
    settings = content.get("config") if isinstance(content, dict) else None
    ours = isinstance(settings, dict) and any(isinstance(key, str) and key.startswith("model.") for key in settings)
    return settings if ours else None


def _tensors(state: object) -> Weights | None:
    """Return a dictionary's tensors without the prefixes common to all names; None if it holds anything else."""
    if not isinstance(state, dict):
        return None
    entries = {key: _tensor(value) for key, value in state.items() if key != "n_averaged"}
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in entries.items()):
        return None
    while prefix := next((p for p in PREFIXES if entries and all(key.startswith(p) for key in entries)), None):
        entries = {key.removeprefix(prefix): value for key, value in entries.items()}
    return entries


def _tensor(value: object) -> Tensor | None:
    """Return torch's or Paddle's tensor as a strided one; Paddle nests tensors as (name, array). None for others."""
    if isinstance(value, tuple) and len(value) == 2:
        value = value[1]
    if isinstance(value, np.ndarray):
        return paddle.to_tensor(value)
    return value if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta else None


def _format_of(weights: Weights) -> Format:
    return next(row for row in FORMATS if any(re.match(row.mark, key) for key in weights))


def _renamed(row: Format, weights: Weights, path: Path) -> Found:
    ours, shifts = {}, set()
    for key, tensor in weights.items():
        plain = SHIFTED.sub("", key) if row.marks_shifts else key
        name = row.rename(plain)
        if name in ours:
            raise CheckpointError(f"{path}: has two tensors named {printable(name)}")
        ours[name] = tensor.T if name in row.transposes and tensor.ndim == 2 else _in_frames(tensor)
        if plain != key and tensor.ndim == 4:
            shifts.add(name.removesuffix(".weight"))
    converted = [f"{key} transposed" for key in row.transposes if key in ours]
    if row.name == "mmaction2" and (biases := dict(mmaction.absent_biases(ours))):
        ours |= biases
        converted.append(f"{len(biases)} biases set to 0: mmaction2's non-local blocks have none")
    return Found(row.name, ours, frozenset(shifts) if row.marks_shifts else None, tuple(converted))


def _in_frames(tensor: Tensor) -> Tensor:
    """Return the weight of a 1x1x1 convolution as that of the equal 1x1 convolution; other tensors unchanged."""
    return tensor.squeeze(-1) if tensor.ndim == 5 and tensor.shape[2:] == (1, 1, 1) else tensor
