"""Set up the runtime of a run: device, precision, memory format, compilation, threads, seeds."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from configs import Config, ConfigError
from configs.schema import Runtime
from dali_pipes import device as host
from engine import apex, compile_table, distributed
from models.shift.measured import missing_for_kernels

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
logger = logging.getLogger(__name__)


def resolve(config: Config) -> Config:
    """Return `config` with every `auto` of its runtime section resolved for this process. Raises ConfigError."""
    if left := config.derived_from_data():
        raise ConfigError("\n".join(f"{key}: train.py chooses it from the data; set it here" for key in left))
    asked = config.runtime
    device = host.pick_device(asked.device)
    precision = host.pick_precision(device) if asked.precision == "auto" else asked.precision
    if precision == "fp16" and device == "cpu":
        logger.warning("runtime.precision: fp16 needs a GPU; computing in fp32")
        precision = "fp32"
    compiled = asked.compile
    if compiled == "auto":
        possible = not missing_for_kernels() and not asked.recompute and asked.batchnorm == "torch"
        compiled = "on" if possible and compile_table.choose(device, precision).compiled else "off"
    threads = host.cores_of_rank() if asked.threads == "auto" else asked.threads
    resolved = replace(asked, device=device, precision=precision, compile=compiled, threads=threads)
    config = replace(config, runtime=resolved)
    if problems := [*apex.problems(config), *_problems_of_triton(config)]:
        raise ConfigError("\n".join(problems))
    return config


def _problems_of_triton(config: Config) -> list[str]:
    """Return problems of settings that need GPU kernels compiled at run time, if this machine cannot compile them."""
    asked = {
        "runtime.compile: on": config.runtime.compile == "on",
        "model.shift: folded": config.model.shift == "folded",
    }
    missing = missing_for_kernels()
    if config.runtime.device != "cuda" or not missing:
        return []
    return [f"{setting} needs {missing}; install that, or use auto" for setting, wanted in asked.items() if wanted]


def prepare(runtime: Runtime, seed: int) -> torch.device:
    """Set up the process for a resolved `runtime`: seeds, threads, cuDNN benchmark. Return this rank's device."""
    torch.manual_seed(seed)
    if runtime.device == "cpu":
        # torchrun sets one thread; more than the cores only wait for each other, though decoding may use them
        torch.set_num_threads(min(runtime.threads, host.cores_of_rank()))
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = True  # shapes are constant, so the search pays off
    torch.backends.cudnn.benchmark_limit = 0  # search all algorithms, not only the first ten
    torch.set_float32_matmul_precision("high")  # TF32 for operations in fp32, as PyTorch does for convolutions anyway
    device = torch.device("cuda", distributed.local_rank())
    torch.cuda.set_device(device)
    return device


def place(model: nn.Module, runtime: Runtime, device: torch.device) -> nn.Module:
    """Move `model` to the device, set its memory format, and compile it if requested. Call it before DDP wraps it.

    It uses `.to(memory_format=...)`, not `.contiguous(...)`: only that gives 1x1 weights the strides of their
    gradients.
    """
    model = model.to(device)
    if runtime.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if runtime.batchnorm == "apex":
        apex.fuse_batchnorms(model)
    if runtime.compile == "on":
        model.compile(dynamic=False)
    return model


def describe_compile(runtime: Runtime) -> str:
    """Return the line for the start of a run: eager or compiled, and the measurement behind it."""
    mode = "compiled" if runtime.compile == "on" else "eager"
    if runtime.device == "cpu":
        return f"step {mode}"
    known = compile_table.choose(runtime.device, runtime.precision)
    agrees = known.compiled == (runtime.compile == "on")
    return f"step {mode}: {known.reason}" if agrees else f"step {mode} although {known.reason} (runtime.compile)"


def autocast(runtime: Runtime) -> AbstractContextManager:
    """Return the autocast context of the forward pass."""
    half = HALF.get(runtime.precision)
    return torch.autocast(runtime.device, dtype=half, enabled=half is not None)


@contextmanager
def exact_fp32() -> Iterator[None]:
    """Disable TF32 in the block, so that results that differ only in the order of summation differ little."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")  # the same API as in `prepare`: torch refuses to mix its APIs
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def grad_scaler(runtime: Runtime) -> torch.amp.GradScaler:
    """Return a gradient scaler for fp16; for other precisions, it is disabled."""
    return torch.amp.GradScaler(runtime.device, enabled=runtime.precision == "fp16")


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators by the step, so that dropout depends on it and resuming needs no generator state.

    This takes the host about 0.2 ms, the device nothing.
    """
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]))


def peak_memory(device: torch.device) -> int:
    """Return the peak memory so far in bytes: of the GPU, or of the process without a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
