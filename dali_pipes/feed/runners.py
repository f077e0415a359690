"""A CPU's own way from a plan to clips: the threads that decode make the clips, too, and leave nothing for a graph."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from configs.schema import Config
from dali_pipes.device import clip_dtype
from dali_pipes.errors import Unreadable
from dali_pipes.feed.clip_maker import ClipMaker
from dali_pipes.feed.dali_runner import GraphRunner
from dali_pipes.feed.feeder import Feeder
from dali_pipes.feed.samples import PreparedBatch
from dali_pipes.scan.catalog import Catalog
from dali_pipes.views.plans import Place, Plan


class CpuRunner:
    """A plan's batches from the `pyav` head, as `runner.GraphRunner` gives them."""

    def __init__(self, config: Config, plan: Plan, catalog: Catalog, threads: int):
        half = clip_dtype(config.runtime.precision, torch.device("cpu")) == torch.float16
        self.plan = plan
        self._ahead = config.runtime.prefetch
        self._feeder = Feeder(
            catalog, "pyav", threads, ClipMaker(plan.size, config.clip.mean, config.clip.std, half=half)
        )
        self._prepared = self._feeder.batches(plan, iter(()), 0)

    @property
    def unreadable(self) -> dict[int, Unreadable]:
        """Videos that could not be read, by row."""
        return self._feeder.unreadable

    def begin(self, places: Iterator[Place]) -> None:
        """Take the batches at these places from now on. What is in preparation is dropped."""
        self._prepared.close()
        self._prepared = self._feeder.batches(self.plan, places, self._ahead)

    def next(self) -> tuple[PreparedBatch, Tensor] | None:
        """A batch and its clips, BVTHWC; None behind the last."""
        prepared = next(self._prepared, None)
        return prepared and (prepared, prepared.clips_BVTHWC)

    def close(self) -> None:
        """Stop all threads."""
        self._prepared.close()
        self._feeder.close()


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

    def next(self) -> tuple[PreparedBatch, Tensor] | None:
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
