"""Device, number format and cores of this process, for loaders and for training alike."""

from __future__ import annotations

import math
import os
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from configs import ConfigError

if TYPE_CHECKING:
    import torch  # imported where it is used: counting cores must not take the seconds of its import

_NO_GPU = ("Found no NVIDIA driver", "No CUDA GPUs are available", "Torch not compiled")  # how torch says just that


def pick_device(asked: str) -> str:
    """Resolve `runtime.device`, with `auto` decided: `cuda` where there is a GPU, else `cpu`.

    Raises ConfigError if a GPU is asked for and there is none, and if there is one that torch cannot use because the
    driver is too old or NVIDIA's services are missing: nobody wants to train on the CPU next to it.
    """
    if asked == "cpu":
        return asked
    import torch

    with warnings.catch_warnings(action="ignore"):  # the error below says the same
        usable = torch.cuda.is_available()
    if usable:
        return "cuda"
    reason = _why_no_gpu()
    if asked == "cuda":
        raise ConfigError(f"runtime.device: cuda, but torch sees no GPU ({reason}); take auto or cpu")
    if not reason.startswith(_NO_GPU):
        raise ConfigError(
            f"runtime.device: there is a GPU, and torch, built for CUDA {torch.version.cuda}, cannot use it "
            f"({reason}); mend that, or set it to cpu"
        )
    return "cpu"


def _why_no_gpu() -> str:
    """Return torch's reason for not seeing a GPU."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # the latter of a torch without CUDA
        return str(error).splitlines()[0]
    return "it cannot tell why"


def pick_precision(device: str) -> str:
    """Resolve `runtime.precision: auto`: fp16 on a GPU, bf16 on a CPU with instructions for it, else fp32."""
    if device == "cuda":
        return "fp16"
    return "bf16" if {"amx_bf16", "avx512_bf16"} & _cpu_flags() else "fp32"


@cache
def _cpu_flags() -> set[str]:
    """Read the flags of this processor, as the kernel lists them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def clip_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the number format of clips: fp16 for fp16 networks and for bf16 on a GPU, else fp32."""
    import torch

    half = precision == "fp16" or (device.type == "cuda" and precision != "fp32")
    return torch.float16 if half else torch.float32


def cores_of_rank() -> int:
    """Count this rank's share of the cores that its host lets it use."""
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def usable_cores() -> int:
    """Count the cores that this process may use: those of its affinity, or fewer if a container has a CPU quota."""
    cores, quota = len(os.sched_getaffinity(0)), cpu_quota()
    return cores if quota >= cores else max(1, math.ceil(quota))


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> float:
    """Return the cores' worth of time that the control groups of this process allow (v2 and v1); inf without a limit.

    Every group above the process's own may limit it. In a container the path in `groups` may not exist below `root`.
    """
    quotas = [math.inf]
    for line in groups.read_text().splitlines() if groups.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / controllers if controllers else root
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top):
                quotas.append(_quota_of(folder))
    return min(quotas)


def _quota_of(folder: Path) -> float:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf


def compute_alone() -> None:
    """Restrict the calling thread's torch operations to itself; otherwise each starts a thread for every core.

    The number is the thread's own: `torch.set_num_threads` would change that of threads to come, training's included.
    """
    import torch
    from threadpoolctl import threadpool_limits  # only needed where a CPU makes clips

    torch.get_num_threads()  # in each thread torch's first use of its number resets it, so that has to be over
    threadpool_limits(1, user_api="openmp")
