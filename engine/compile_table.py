"""Measured times of the training step, eager and compiled, by which `runtime.compile=auto` chooses.

`benchmarks/on_gpu.py` writes the rows of compile_table.jsonl: device, precision, `eager_ms` and `compiled_ms`. A device
without a row computes eagerly. There is no row for a GPU yet.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

FILE = Path(__file__).with_name("compile_table.jsonl")


def compiles(device: str, precision: str, file: Path = FILE) -> bool:
    """Return True if the compiled step was measured as faster on this device in this precision."""
    if device != "cuda":
        return False
    row = next((row for row in read(file) if key(row) == (gpu_name(), precision)), None)
    return row is not None and row["compiled_ms"] < row["eager_ms"]


def read(file: Path) -> list[dict]:
    """Return the rows of a table, none if there is no file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def key(row: dict) -> tuple[str, str]:
    """Return the device and the precision that identify a row."""
    return row["device"], row["precision"]


def gpu_name() -> str:
    """Return the name of the current GPU."""
    return torch.cuda.get_device_name()
