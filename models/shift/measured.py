"""Measured times of the folded and the copied shift per layer and device, and the rule that chooses by them.

`benchmarks/shift.py` writes the rows, one line of JSON each. Times are in milliseconds, for the forward pass and both
gradients together: `plain_ms` without a shift, `copied_ms` with the shift as a copy before the convolution, `folded_ms`
with the shift folded into it. Layers without a row are not folded. Image and batch size are not part of the key, as
all forms scale with them alike.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

FILE = Path(__file__).with_name("fold_table.jsonl")
Row = dict[str, Any]


@torch.compiler.assume_constant_result
def is_faster(device: torch.device, dtype: torch.dtype, channels: int, filters: int, compiled: bool) -> bool:
    """Return True if the folded form was measured as no slower than the alternative.

    In eager mode the alternative is the copy. A compiler fuses the copy into the operation before it at almost no cost,
    so there the folded form must be as fast as no shift at all. Under a compiler on a CPU the answer is False.
    """
    row = find(device, dtype, channels, filters)
    if row is None or (compiled and device.type == "cpu"):
        return False
    return row["folded_ms"] <= row["plain_ms" if compiled else "copied_ms"]


def find(device: torch.device, dtype: torch.dtype, channels: int, filters: int) -> Row | None:
    """Return the row of a layer, or None if it was not measured."""
    return rows().get((device_name(device), str(dtype).removeprefix("torch."), channels, filters))


def knows(device: torch.device, dtype: torch.dtype) -> bool:
    """Return True if any layer was measured on this device in this dtype."""
    return any(found[:2] == (device_name(device), str(dtype).removeprefix("torch.")) for found in rows())


def key(row: Row) -> tuple:
    """Return the device, dtype and channel counts that identify a row."""
    return row["device"], row["dtype"], row["channels"], row["filters"]


@cache
def device_name(device: torch.device) -> str:
    """Return the name of a device in the rows: the model of the GPU or of the processor."""
    if device.type == "cpu":
        return processor()
    return torch.cuda.get_device_name(device) if torch.cuda.is_available() and device.type == "cuda" else device.type


def processor() -> str:
    """Return the processor's model name from /proc/cpuinfo, or `cpu` if it has none."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "cpu")


@cache
def rows() -> dict[tuple, Row]:
    return {key(row): row for row in map(json.loads, FILE.read_text().splitlines())}
