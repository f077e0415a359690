"""Which convolutions the shift is folded into: what was measured on which device, and the rule that decides by it.

`benchmarks/shift.py` writes the rows, one line of JSON each. Times are in milliseconds, of the forward pass and both
gradients together: `plain_ms` without a shift, `copied_ms` with one beside the convolution, `folded_ms` with one
inside. What has no row is not folded. Sizes of pictures and batches are no part of the key: all forms grow alike.
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
    """Whether the folded form was measured as no slower than what would be done otherwise.

    Eager PyTorch copies. A compiler fuses the copy into what comes before, where it costs next to nothing: it is only
    beaten for sure by a folded form that is as fast as no shift at all. On a CPU it is given no folded form.
    """
    row = find(device, dtype, channels, filters)
    if row is None or (compiled and device.type == "cpu"):
        return False
    return row["folded_ms"] <= row["plain_ms" if compiled else "copied_ms"]


def find(device: torch.device, dtype: torch.dtype, channels: int, filters: int) -> Row | None:
    """What was measured, if anything was."""
    return rows().get((device_name(device), str(dtype).removeprefix("torch."), channels, filters))


def knows(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether anything was measured on a device in a type."""
    return any(found[:2] == (device_name(device), str(dtype).removeprefix("torch.")) for found in rows())


def key(row: Row) -> tuple:
    """What a row is about."""
    return row["device"], row["dtype"], row["channels"], row["filters"]


@cache
def device_name(device: torch.device) -> str:
    """What a row calls a device: a GPU by its name, a CPU by the name of its processor."""
    if device.type == "cpu":
        return processor()
    return torch.cuda.get_device_name(device) if torch.cuda.is_available() and device.type == "cuda" else device.type


def processor() -> str:
    """This machine's processor as its kernel names it; `cpu` where it does not."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "cpu")


@cache
def rows() -> dict[tuple, Row]:
    return {key(row): row for row in map(json.loads, FILE.read_text().splitlines())}
