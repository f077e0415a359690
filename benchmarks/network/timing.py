"""How long work takes on a device, in milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

CACHE = 256 << 20  # bytes that are more than any GPU's cache
AHEAD = 1_000_000  # cycles, half a millisecond: what the host needs to ask for a few kernels


@dataclass(frozen=True)
class Clock:
    """Times what a device does, from the device's own clock where it has one."""

    device: torch.device

    def time(self, work: Callable[[], object], repeats: int = 1, *, cold: bool = False) -> float:
        """The median over `repeats`; `cold` empties the GPU's cache before each of them."""
        return statistics.median(self._once(work, cold) for _ in range(repeats))

    def _once(self, work: Callable[[], object], cold: bool) -> float:
        if self.device.type != "cuda":
            began = time.perf_counter()
            work()
            return 1e3 * (time.perf_counter() - began)
        if cold:
            torch.empty(CACHE, dtype=torch.uint8, device=self.device).zero_()
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(AHEAD)  # while the host asks for the work, which may take longer than the work itself
        began.record()
        work()
        ended.record()
        ended.synchronize()
        return began.elapsed_time(ended)
