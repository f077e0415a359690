"""Clips on a CPU without a graph: the threads that decode make the clips, too."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dali_pipes.errors import Unreadable
from dali_pipes.feed.choice import Choice
from dali_pipes.feed.clip_maker import ClipMaker
from dali_pipes.feed.feeder import Feeder
from dali_pipes.feed.samples import PreparedBatch
from dali_pipes.views.plans import Place, Plan


class CpuRunner:
    """Runs a plan whose videos are all decoded by threads, on a CPU; the interface is that of `GraphRunner`."""

    slow_part = "the threads that decode and make clips"

    def __init__(self, plan: Plan, choice: Choice, threads: int, dtype: torch.dtype):
        config = plan.config
        self._ahead = config.runtime.prefetch
        maker = ClipMaker(plan.size, config.clip.mean, config.clip.std, half=dtype == torch.float16)
        self._feeder = Feeder(plan, choice.of_batch, threads, maker=maker)
        self._prepared = self._feeder.batches(iter(()), 0)

    @property
    def unreadable(self) -> dict[int, Unreadable]:
        """Videos that could not be read, by row."""
        return self._feeder.unreadable

    def begin(self, places: Iterator[Place]) -> None:
        """Take the batches at these places from now on. What is in preparation is dropped."""
        self._prepared.close()
        self._prepared = self._feeder.batches(places, self._ahead)

    def next(self) -> tuple[PreparedBatch, Tensor] | None:
        """Return a batch and its clips, BVTHWC; None behind the last."""
        prepared = next(self._prepared, None)
        return prepared and (prepared, prepared.clips_BVTHWC)

    def close(self) -> None:
        """Stop all threads."""
        self._prepared.close()
        self._feeder.close()
