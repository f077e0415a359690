"""Time work on a device, in milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

CACHE = 256 << 20  # bytes, larger than any GPU's cache
AHEAD = 1_000_000  # cycles, half a millisecond: the host's time to launch a few kernels


@dataclass(frozen=True)
class Clock:
    """Times the work of a device, by the device's own clock if it has one."""

    device: torch.device

    def time(self, work: Callable[[], object], repeats: int = 1, *, cold: bool = False) -> float:
        """Return the median over `repeats`; `cold` clears the GPU's cache before each of them."""
        return statistics.median(self._once(work, cold) for _ in range(repeats))

    def _once(self, work: Callable[[], object], cold: bool) -> float:
        if self.device.type != "cuda":
            began = time.perf_counter()
            work()
            return 1e3 * (time.perf_counter() - began)
        if cold:
            torch.empty(CACHE, dtype=torch.uint8, device=self.device).zero_()
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(AHEAD)  # while the host launches the work, which may take longer than the work
        began.record()
        work()
        ended.record()
        ended.synchronize()
        return began.elapsed_time(ended)
