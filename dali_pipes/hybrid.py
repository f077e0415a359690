"""Two decode heads at once, where one alone cannot keep up: some batches are decoded by the CPU, the others by the GPU.

A batch is the work of one head, so no clip is copied to be joined with others, and which head's it is follows from the
step's number: the views are those of a single head, pixels within the heads' tolerance.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

from torch import Tensor

from dali_pipes.batch import Unreadable
from dali_pipes.cpu_runner import CpuRunner
from dali_pipes.plan import Place
from dali_pipes.runner import GraphRunner
from dali_pipes.sample import Prepared

Runner = GraphRunner | CpuRunner

TRIAL = 8  # batches that each head decodes to see how fast it is


class HybridRunner:
    """Batches in their order from two runners over the same plan. `cpu_share`: of the first; None: measured."""

    def __init__(self, cpu: Runner, other: GraphRunner, cpu_share: float | None):
        self._cpu, self._other = cpu, other
        self._plan = cpu.plan
        self.cpu_share = cpu_share
        self._places: Iterator[Place] = iter(())

    @property
    def unreadable(self) -> dict[int, Unreadable]:
        """Videos that a head could not read, by row."""
        return self._other.unreadable | self._cpu.unreadable

    def begin(self, places: Iterator[Place]) -> None:
        """Take the batches at these places from now on."""
        if self.cpu_share is None:
            places, ahead = itertools.tee(places)
            if trial := list(itertools.islice(ahead, TRIAL)):  # none where a loader only pauses
                self.cpu_share = self._measure(trial)
        self._places, cpus, others = itertools.tee(places, 3)
        self._cpu.begin(filter(self._is_cpus, cpus))
        self._other.begin(itertools.filterfalse(self._is_cpus, others))

    def next(self) -> tuple[Prepared, Tensor] | None:
        """A batch and its clips, BVTHWC; None behind the last."""
        place = next(self._places, None)
        if place is None:
            return None
        return (self._cpu if self._is_cpus(place) else self._other).next()

    def close(self) -> None:
        self._cpu.close()
        self._other.close()

    def _is_cpus(self, place: Place) -> bool:
        """The CPU's are the steps at which its share of all steps so far reaches the next whole number."""
        epoch, step = place
        number = epoch * len(self._plan) + step
        return int((number + 1) * self.cpu_share) > int(number * self.cpu_share)

    def _measure(self, places: list[Place]) -> float:
        """The CPU's part of what both decode in the same time, once each has decoded a batch and is set up."""
        seconds = []
        for runner in (self._cpu, self._other):
            self._decode(runner, places[:1])
            began = time.perf_counter()
            self._decode(runner, places)
            seconds.append(time.perf_counter() - began)
        of_cpu, of_other = seconds
        return of_other / (of_cpu + of_other)

    @staticmethod
    def _decode(runner: Runner, places: list[Place]) -> None:
        runner.begin(iter(places))
        while runner.next():
            pass
