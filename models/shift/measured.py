"""Measured times of the folded and the copied shift per layer and device, and the rule that chooses by them.

`benchmarks/shift.py` writes the shipped rows, `measuring.py` those of an unknown GPU, as JSON lines. A GPU without rows
uses those of its compute capability, for example an H100 those of an H200.

Times are in milliseconds, for the forward pass and both gradients together: `plain_ms` without a shift, `copied_ms`
with the shift as a copy before the convolution, `folded_ms` with the shift folded into it. Layers without a row are not
folded. Image and batch size are not part of the key, since all forms scale with them equally.
"""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import torch

FILE = Path(__file__).with_name("fold_table.jsonl")
Row = dict[str, Any]


@torch.compiler.assume_constant_result
def is_faster(device: torch.device, dtype: torch.dtype, channels: int, filters: int, compiled: bool) -> bool:
    """Return True if the folded form was measured as no slower than the alternative.

    In eager mode, the alternative is the copy. A compiler fuses the copy into the preceding operation at almost no
    cost, so there the folded form must be as fast as no shift at all. With a compiler on a CPU, the result is False. On
    a GPU without measurements, the computed memory traffic decides: see `by_count`.
    """
    row = find(device, dtype, channels, filters)
    if row is None and by_count(device, dtype):
        return True
    if row is None or (compiled and device.type == "cpu"):
        return False
    return row["folded_ms"] <= row["plain_ms" if compiled else "copied_ms"]


@cache
def by_count(device: torch.device, dtype: torch.dtype) -> bool:
    """Return True for a GPU without measurements if the folded form moves the fewest bytes.

    `benchmarks/network/bytes.py` counts them. The kernels are made for the tensor cores of capability 8.0 and newer.
    """
    modern = device.type == "cuda" and torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)
    return modern and dtype != torch.float32 and not source(device, dtype) and not missing_for_kernels()


def missing_for_kernels() -> str:
    """Return what this machine lacks to compile GPU kernels at run time; empty if nothing."""
    needed = {
        "a C compiler (gcc, clang, or one named in CC)": os.environ.get("CC")
        or any(map(shutil.which, ("gcc", "clang"))),
        "Python's headers (python3-dev)": Path(sysconfig.get_path("include", "posix_prefix"), "Python.h").is_file(),
    }
    return " and ".join(what for what, there in needed.items() if not there)


def find(device: torch.device, dtype: torch.dtype, channels: int, filters: int) -> Row | None:
    """Return the row of a layer on this device, otherwise on one of its capability; None if there is neither."""
    layer = str(dtype).removeprefix("torch."), channels, filters
    return rows().get((device_name(device), *layer)) or rows().get((capability(device), *layer))


def source(device: torch.device, dtype: torch.dtype) -> str:
    """Return the name of the device with the rows for this one; empty if there is none."""
    keys = [(name, str(dtype).removeprefix("torch.")) for name in (device_name(device), capability(device))]
    found = (row["device"] for wanted in keys for key, row in rows().items() if key[:2] == wanted)
    return next(found, "")


def key(row: Row) -> tuple:
    """Return the device, dtype and channel counts that identify a row."""
    return row["device"], row["dtype"], row["channels"], row["filters"]


@cache
def device_name(device: torch.device) -> str:
    """Return the name of a device in the rows: the GPU's or the processor's model."""
    if device.type == "cpu":
        return processor()
    return torch.cuda.get_device_name(device) if torch.cuda.is_available() and device.type == "cuda" else device.type


@cache
def capability(device: torch.device) -> str:
    """Return the compute capability of a GPU, such as `capability 9.0`; empty for other devices."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return ""
    return "capability {}.{}".format(*torch.cuda.get_device_capability(device))


def user_file() -> Path:
    """Return the file of rows that were measured on this machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tsm_dali", FILE.name)


def add(measured: list[Row]) -> None:
    """Add rows to the user's file. It is replaced atomically, so that a reader never sees a part of it."""
    file = user_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    known = {key(row): row for row in [*_read(file), *measured]}
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    unfinished.write_text("".join(json.dumps(row) + "\n" for row in known.values()))
    os.replace(unfinished, file)
    forget()


def forget() -> None:
    """Clear the cache, so that the files are read again."""
    rows.cache_clear()
    by_count.cache_clear()


def processor() -> str:
    """Return the processor's model name from /proc/cpuinfo, or `cpu` if it has none."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "cpu")


@cache
def rows() -> dict[tuple, Row]:
    """Return all rows by key; shipped rows have priority over the user's, and are also stored under their
    capability.
    """
    found: dict[tuple, Row] = {}
    for row in [*_read(FILE), *_read(user_file())]:
        found.setdefault(key(row), row)
        if row.get("capability"):
            found.setdefault((f"capability {row['capability']}", *key(row)[1:]), row)
    return found


def _read(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
