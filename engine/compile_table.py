"""Measured times of the training step, eager and compiled; `runtime.compile=auto` chooses by them.

`benchmarks/on_gpu.py` writes rows with `device`, `capability`, `precision`, `eager_ms` and `compiled_ms`. A GPU without
rows uses those of its compute capability, for example an H100 those of an H200. Without measurements, the computed
memory traffic decides, since it limits a step of a 2-D network on a GPU: `benchmarks/network/bytes.py --keep` writes
the row for any GPU, with `eager_mb` and `compiled_mb` per frame. Other devices run eagerly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch

FILE = Path(__file__).with_name("compile_table.jsonl")
ANY_GPU = "any GPU"
COUNTED = {"fp16", "bf16"}  # precisions of the computed row; nothing is known for fp32


class Verdict(NamedTuple):
    """The faster mode of the step on a device, and a sentence with the measurement."""

    compiled: bool
    reason: str


def choose(device: str, precision: str, file: Path = FILE) -> Verdict:
    """Return the faster mode on the current device in this precision, as far as it is known."""
    row = _find(precision, read(file)) if device == "cuda" else None
    if row is None:
        return Verdict(False, "nothing is known of this device")
    measured = "eager_ms" in row
    unit = "ms" if measured else "mb"
    eager, compiled = row[f"eager_{unit}"], row[f"compiled_{unit}"]
    source = f"measured on {row['device']}" if measured else "by count, not measured"
    name = "ms a step" if measured else "MB a frame"
    return Verdict(compiled < eager, f"{compiled:.4g} {name} compiled, {eager:.4g} eager, {source}")


def _find(precision: str, rows: list[dict]) -> dict | None:
    """Return the row of this GPU, otherwise of its compute capability, otherwise of any GPU."""
    of_precision = [row for row in rows if row["precision"] == precision]
    named = [row for row in of_precision if row["device"] == gpu_name()]
    similar = [row for row in of_precision if row.get("capability") == capability()]
    counted = [row for row in rows if row["device"] == ANY_GPU and precision in COUNTED]
    return next(iter([*named, *similar, *counted]), None)


def add(row: dict, file: Path = FILE) -> None:
    """Add a row to a table, replacing one of the same device and precision."""
    kept = [old for old in read(file) if key(old) != key(row)]
    file.write_text("".join(json.dumps(line) + "\n" for line in [*kept, row]))


def read(file: Path) -> list[dict]:
    """Return the rows of a table; empty if there is no file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def key(row: dict) -> tuple[str, str]:
    """Return the device and the precision that identify a row."""
    return row["device"], row["precision"]


def gpu_name() -> str:
    """Return the name of the current GPU."""
    return torch.cuda.get_device_name()


def capability() -> str:
    """Return the compute capability of the current GPU, such as 9.0."""
    return "{}.{}".format(*torch.cuda.get_device_capability())
