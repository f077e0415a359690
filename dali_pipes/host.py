"""What this process may use: device, number format, cores. One answer for loaders and for training."""

from __future__ import annotations

import os

import torch


def pick_device(asked: str) -> str:
    """`runtime.device`, with `auto` decided: `cuda` where there is a GPU."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return asked


def clip_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What clips are made of: fp16 wherever the network computes in 16 bits, for half the memory traffic."""
    half = precision == "fp16" or (device.type == "cuda" and precision != "fp32")
    return torch.float16 if half else torch.float32


def cores_of_rank() -> int:
    """This rank's share of the cores that its host lets it use."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
