"""Device, precision and CPU cores of this process, for loaders and training."""

from __future__ import annotations

import math
import os
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from configs import ConfigError

if TYPE_CHECKING:
    import torch  # imported where it is used: counting cores must not wait seconds for torch's import

_NO_GPU = ("Found no NVIDIA driver", "No CUDA GPUs are available", "Torch not compiled")  # torch's text for "no GPU"


def pick_device(asked: str) -> str:
    """Resolve `runtime.device`; `auto` is `cuda` if there is a GPU, otherwise `cpu`.

    Raises ConfigError if a GPU is requested and there is none, and if torch cannot use the GPU because the driver is
    too old or NVIDIA's services are missing: training on the CPU would be a surprise.
    """
    if asked == "cpu":
        return asked
    import torch

    with warnings.catch_warnings(action="ignore"):  # the error below contains the reason
        usable = torch.cuda.is_available()
    if usable:
        return "cuda"
    reason = _why_no_gpu()
    if asked == "cuda":
        raise ConfigError(f"runtime.device: cuda, but torch sees no GPU ({reason}); use auto or cpu")
    if not reason.startswith(_NO_GPU):
        raise ConfigError(
            f"runtime.device: there is a GPU, and torch, built for CUDA {torch.version.cuda}, cannot use it "
            f"({reason}); fix that, or set it to cpu"
        )
    return "cpu"


def _why_no_gpu() -> str:
    """Return torch's reason for not seeing a GPU."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        return str(error).splitlines()[0]
    return "it cannot tell why"


def pick_precision(device: str) -> str:
    """Resolve `runtime.precision: auto`: fp16 on a GPU, bf16 on a CPU with instructions for it, else fp32."""
    if device == "cuda":
        return "fp16"
    return "bf16" if {"amx_bf16", "avx512_bf16"} & _cpu_flags() else "fp32"


@cache
def _cpu_flags() -> set[str]:
    """Read this processor's feature flags from /proc/cpuinfo."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def clip_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of clips: fp16 for fp16 networks and for bf16 on a GPU, otherwise fp32."""
    import torch

    half = precision == "fp16" or (device.type == "cuda" and precision != "fp32")
    return torch.float16 if half else torch.float32


def cores_of_rank() -> int:
    """Return this rank's share of the usable cores of its host."""
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def usable_cores() -> int:
    """Return the number of cores that this process may use: its affinity, limited by the CPU quota of a container."""
    cores, quota = len(os.sched_getaffinity(0)), cpu_quota()
    return cores if quota >= cores else max(1, math.ceil(quota))


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> float:
    """Return the CPU quota of this process's control groups (v2 and v1), in cores; inf without a limit.

    Every parent group may set a limit, too. In a container, the path in `groups` may not exist below `root`.
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


def use_one_torch_thread() -> None:
    """Restrict torch operations of the calling thread to one thread; otherwise each starts a thread per core.

    This sets the number for the calling thread. `torch.set_num_threads` would also change it for later threads,
    including training's.
    """
    import torch
    from threadpoolctl import threadpool_limits  # needed only if the CPU makes clips

    torch.get_num_threads()  # torch's first use of the number in a thread resets it, so use it once before setting it
    threadpool_limits(1, user_api="openmp")
