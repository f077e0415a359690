"""Make clips on a CPU without a graph: the decoding threads also make the clips."""

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
    """Runs a plan on a CPU if threads decode all videos; it has the interface of `GraphRunner`."""

    slow_part = "the threads that decode and make clips"

    def __init__(self, plan: Plan, choice: Choice, threads: int, dtype: torch.dtype):
        config = plan.config
        self._ahead = config.runtime.prefetch
        maker = ClipMaker(plan.size, config.clip.mean, config.clip.std, half=dtype == torch.float16)
        self._feeder = Feeder(plan, choice.of_batch, threads, maker=maker)
        self._prepared = self._feeder.batches(iter(()), 0)

    @property
    def unreadable(self) -> dict[int, Unreadable]:
        """Return the videos that could not be read, by row."""
        return self._feeder.unreadable

    def begin(self, places: Iterator[Place]) -> None:
        """Continue with the batches at these places; drop batches in preparation."""
        self._prepared.close()
        self._prepared = self._feeder.batches(places, self._ahead)

    def next(self) -> tuple[PreparedBatch, Tensor] | None:
        """Return the next batch and its clips, BVTHWC; None after the last."""
        prepared = next(self._prepared, None)
        return prepared and (prepared, prepared.clips_BVTHWC)

    def close(self) -> None:
        """Stop all threads."""
        self._prepared.close()
        self._feeder.close()
