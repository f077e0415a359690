"""A CPU's own way from a plan to clips: the threads that decode make the clips, too, and leave nothing for a graph."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from configs.schema import Config
from dali_pipes.batch import Unreadable
from dali_pipes.catalog import Catalog
from dali_pipes.clips import ClipMaker
from dali_pipes.device import clip_dtype
from dali_pipes.feed import Feeder
from dali_pipes.plan import Place, Plan
from dali_pipes.sample import Prepared


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

    def next(self) -> tuple[Prepared, Tensor] | None:
        """A batch and its clips, BVTHWC; None behind the last."""
        prepared = next(self._prepared, None)
        return prepared and (prepared, prepared.clips_BVTHWC)

    def close(self) -> None:
        """Stop all threads."""
        self._prepared.close()
        self._feeder.close()
