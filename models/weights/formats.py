"""Whose file it is, by the names of its tensors; and the tensors under torchvision's names, which are ours.

A format is a row of a table: the name that gives it away, and how its names become ours. Knows nothing of models.
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

WRAPPERS = ("ema", "model_ema", "state_dict_ema", "model", "state_dict")  # averaged weights before the last ones
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile and Lightning
SHIFTED = re.compile(r"(?<=conv1)\.net|(?<=conv1\.conv)\.net|(?<=conv\.0)\.net")  # MIT and mmaction2 wrap such layers


@dataclass(frozen=True)
class Format:
    """One project's names for one kind of network."""

    name: str
    mark: str
    """A pattern that the name of some tensor begins with, and of no tensor of the formats below."""
    rename: Rename
    says_shifts: bool = False
    """Whether the names say which layers read shifted input."""
    transposes: tuple[str, ...] = ()
    """What is stored the other way round, by our names."""


@dataclass(frozen=True)
class Found:
    """The tensors of a file under our names."""

    format: str
    weights: Weights
    shifts: frozenset[str] | None = None
    """The layers that read shifted input; None where the format does not say."""
    converted: tuple[str, ...] = ()
    """What was done to the numbers, in words."""
    settings: dict[str, object] = field(default_factory=dict)
    """Those that they were trained with, by `section.key`, where the file says."""


def _by_rules(*rules: tuple[str, str | Callable[[re.Match], str]]) -> Rename:
    """Replace each pattern in turn."""

    def rename(key: str) -> str:
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        return key

    return rename


def _by_modules(prefixes: str, names: dict[str, str]) -> Rename:
    """Take a prefix away, and look up the module that the tensor belongs to."""

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
        says_shifts=True,
    ),
    Format("MIT TSM", r"base_model\.|new_fc\.", _MIT, says_shifts=True),
    Format(
        "mmaction2",
        r"(backbone\.)?conv2\.conv\.",
        _by_modules("backbone|cls_head", mobilenet_names.mmaction()),
        says_shifts=True,
    ),
    Format("mmaction2", r"backbone\.(conv1|layer1)\.|cls_head\.", _by_rules(*mmaction.RULES), says_shifts=True),
    Format("PaddleVideo", r"(backbone\.)?conv(1_1)?\._conv\.", _by_rules(*paddle.RULES), transposes=("fc.weight",)),
    Format("timm", r"conv_stem\.", _by_modules("model", mobilenet_names.timm())),
    Format("torchvision", r"", lambda key: key),
)


def recognise(content: object, path: Path) -> Found:
    """The tensors that a file's content holds, under our names. Raises CheckpointError where there are none."""
    entries = content if isinstance(content, dict) else {}
    for state in (*(entries.get(wrapper) for wrapper in WRAPPERS), entries):
        if weights := _tensors(state):
            found = _renamed(_format_of(weights), weights, path)
            if found.format == "mmaction2":
                mmaction.refuse_other_attention(found.weights, entries.get("meta"), path)
            if isinstance(settings := entries.get("config"), dict):
                found = replace(found, format="checkpoint of a run", settings=settings)
            return found
    seen = f"a dictionary of {some(entries)}" if entries else f"a {printable(content)}"
    known = ", ".join(dict.fromkeys(row.name for row in FORMATS))
    raise CheckpointError(f"{path}: holds {seen}; formats that can be read: {known}")


def _tensors(state: object) -> Weights | None:
    """The tensors of a dictionary that has nothing else, by their names without what all have in front."""
    if not isinstance(state, dict):
        return None
    entries = {key: _tensor(value) for key, value in state.items() if key != "n_averaged"}
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in entries.items()):
        return None
    while prefix := next((p for p in PREFIXES if entries and all(key.startswith(p) for key in entries)), None):
        entries = {key.removeprefix(prefix): value for key, value in entries.items()}
    return entries


def _tensor(value: object) -> Tensor | None:
    """A tensor of numbers, of torch or of Paddle, whose tensors in nested dictionaries are pairs (name, array)."""
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
        plain = SHIFTED.sub("", key) if row.says_shifts else key
        name = row.rename(plain)
        if name in ours:
            raise CheckpointError(f"{path}: has two tensors for {printable(name)}")
        ours[name] = tensor.T if name in row.transposes and tensor.ndim == 2 else _in_frames(tensor)
        if plain != key and tensor.ndim == 4:
            shifts.add(name.removesuffix(".weight"))
    converted = [f"{key} transposed" for key in row.transposes if key in ours]
    if row.name == "mmaction2" and (biases := dict(mmaction.absent_biases(ours))):
        ours |= biases
        converted.append(f"{len(biases)} biases are 0, which non-local blocks do without there")
    return Found(row.name, ours, frozenset(shifts) if row.says_shifts else None, tuple(converted))


def _in_frames(tensor: Tensor) -> Tensor:
    """A 1x1x1 convolution over time, height and width as the 1x1 convolution over single frames that it equals."""
    return tensor.squeeze(-1) if tensor.ndim == 5 and tensor.shape[2:] == (1, 1, 1) else tensor
