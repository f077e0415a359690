"""Divide wall time into data, steps and pauses. Training and benchmarks share this clock, so their numbers are
comparable.

*data*: from the request of a batch to its arrival. *step*: from its arrival to the next request. *paused*: evaluation
and checkpoints, in neither. The first steps (buffers fill, kernels are selected) are not counted.

On a GPU, the marks are CUDA events in the compute stream: while the host waits for data but the GPU still has work, no
time is lost and none is counted as data.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

Item = TypeVar("Item")
Mark = float | torch.cuda.Event


@dataclass(frozen=True)
class Times:
    """Time and work of an interval of counted steps. Rates are None if nothing was counted."""

    data: float = 0.0
    step: float = 0.0
    steps: int = 0
    clips: int = 0

    def __add__(self, other: Times) -> Times:
        return Times(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def clips_per_second(self) -> float | None:
        return self.clips / (self.data + self.step) if self.steps else None

    @property
    def data_fraction(self) -> float | None:
        """Return the fraction of time that was spent waiting for data."""
        return self.data / (self.data + self.step) if self.steps else None

    @property
    def seconds_per_step(self) -> float | None:
        return (self.data + self.step) / self.steps if self.steps else None


class Clock:
    """Usage: `for batch in clock.fetch(loader.epoch(e))`, `with clock.pause()`, and sometimes `clock.read()`.

    `clips_per_step` is for all ranks; the first `warmup` steps are not counted.
    """

    def __init__(self, device: torch.device, clips_per_step: int, warmup: int = 2):
        self.total = Times()
        self.paused = 0.0
        self._clips_per_step = clips_per_step
        self._on_gpu = device.type == "cuda"
        self._to_skip = warmup
        self._open: tuple[Mark, Mark] | None = None  # current step: (batch requested, batch arrived)
        self._done: list[
            tuple[Mark, Mark, Mark]
        ] = []  # counted steps since `read`: (batch requested, arrived, step done)

    def fetch(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield the batches, and measure the wait and the step of each."""
        batches = iter(batches)
        try:
            while True:
                asked = self._close_step()
                batch = next(batches, None)
                if batch is None:
                    return
                self._open = asked, self._mark()
                yield batch
        finally:
            self._close_step()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Count the time of the block as paused."""
        self._close_step()
        began = time.perf_counter()
        yield
        self.paused += time.perf_counter() - began

    def read(self) -> Times:
        """Return the times of the steps since the last read, and add them to `total`. Waits for the device."""
        done, self._done = self._done, []
        if done and self._on_gpu:
            done[-1][-1].synchronize()
        data = sum(self._seconds(asked, there) for asked, there, _ in done)
        step = sum(self._seconds(there, end) for _, there, end in done)
        times = Times(data, step, len(done), len(done) * self._clips_per_step)
        self.total += times
        return times

    def _mark(self) -> Mark:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _seconds(self, start: Mark, end: Mark) -> float:
        return start.elapsed_time(end) / 1000 if self._on_gpu else end - start

    def _close_step(self) -> Mark:
        now = self._mark()
        if self._open and self._to_skip:
            self._to_skip -= 1
        elif self._open:
            self._done.append((*self._open, now))
        self._open = None
        return now
