"""What this process may use: device, number format, cores. One answer for loaders and for training."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import torch


def pick_device(asked: str) -> str:
    """`runtime.device`, with `auto` decided: `cuda` where there is a GPU."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return asked


def pick_precision(device: str) -> str:
    """`runtime.precision: auto`: fp16 on a GPU; on a CPU bf16 where it multiplies such numbers itself, else fp32."""
    if device == "cuda":
        return "fp16"
    return "bf16" if {"amx_bf16", "avx512_bf16"} & _cpu_flags() else "fp32"


@cache
def _cpu_flags() -> set[str]:
    """What the kernel says that this processor can do."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def clip_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What clips are made of: fp16 for a network in fp16, on a GPU for one in bf16 too (half the traffic); or fp32."""
    half = precision == "fp16" or (device.type == "cuda" and precision != "fp32")
    return torch.float16 if half else torch.float32


def cores_of_rank() -> int:
    """This rank's share of the cores that its host lets it use."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def compute_alone() -> None:
    """Let the calling thread do by itself what it asks of torch: else each gets a team of threads, one for every core.

    The number is the thread's own: `torch.set_num_threads` would change that of threads to come, training's included.
    """
    from threadpoolctl import threadpool_limits  # only needed where a CPU makes clips

    torch.get_num_threads()  # in each thread torch's first use of its number resets it, so that has to be over
    threadpool_limits(1, user_api="openmp")
