"""Runs the graph over a plan's batches: the only place that runs a DALI pipeline, and that brings one back to life.

One undecodable file makes DALI invalidate the whole pipeline without naming it. The runner therefore remembers what is
in flight, finds the culprit by running each video alone, remembers it as unreadable, and goes on from the same batch.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from configs.schema import Config
from dali_pipes.batch import Unreadable
from dali_pipes.catalog import Catalog
from dali_pipes.errors import DataError
from dali_pipes.feed import Feeder
from dali_pipes.graph import Head, clip_graph
from dali_pipes.host import clip_dtype
from dali_pipes.plan import Place, Plan
from dali_pipes.sample import Prepared, Sample, placeholder


class GraphRunner:
    """A plan's batches from one decode head: prepared by its threads, some ahead, and made into clips by the graph."""

    def __init__(self, config: Config, plan: Plan, catalog: Catalog, head: Head, device: torch.device, threads: int):
        self.plan = plan
        self._config = config
        self._device = device
        self._threads = threads
        self._feeder = Feeder(catalog, head, threads)
        self._prepared = self._feeder.batches(plan, iter(()), 0)
        self._coming: Iterator[Prepared] = iter(())
        self._in_flight: deque[Prepared] = deque()
        self._pipeline = self._build(self._next_columns, plan.batch)

    @property
    def unreadable(self) -> dict[int, Unreadable]:
        """Videos that this head could not read, by row."""
        return self._feeder.unreadable

    def begin(self, places: Iterator[Place]) -> None:
        """Take the batches at these places from now on. What is in preparation is dropped."""
        self._prepared.close()
        self._coming = iter(())
        while self._run() is not None:
            pass
        self._in_flight.clear()
        self._prepared = self._feeder.batches(self.plan, places, self._config.runtime.prefetch)
        self._coming = self._prepared

    def next(self) -> tuple[Prepared, Tensor] | None:
        """A batch and its clips, BVTHWC; None behind the last. Raises DataError when decoding fails for no video."""
        clips_BVTHWC = self._run()
        return None if clips_BVTHWC is None else (self._in_flight.popleft(), clips_BVTHWC)

    def close(self) -> None:
        """Stop all threads."""
        self._prepared.close()
        self._feeder.close()

    def _build(self, source, batch: int):
        """A pipeline over `source` for batches of `batch` videos."""
        clip, views = self._config.clip, self.plan.views
        if self._feeder.head == "jpeg":  # each frame of each view is a video of its own
            batch, views = batch * views * self.plan.frames, 1
        pipeline = clip_graph(
            source,
            head=self._feeder.head,
            device="gpu" if self._device.type == "cuda" else "cpu",
            views=views,
            size=self.plan.size,
            antialias=clip.antialias,
            mean=clip.mean,
            std=clip.std,
            half=clip_dtype(self._config.runtime.precision, self._device) == torch.float16,
            batch_size=batch,
            num_threads=self._threads,
            device_id=(self._device.index or 0) if self._device.type == "cuda" else None,
        )
        pipeline.build()
        return pipeline

    def _next_columns(self):
        """What the graph's source returns: the next batch, remembered as in flight."""
        prepared = next(self._coming)  # StopIteration ends the run
        self._in_flight.append(prepared)
        return prepared.columns(self._feeder.head)

    def _run(self) -> Tensor | None:
        """The next batch of clips, BVTHWC; None behind the last."""
        while True:
            try:
                (clips,) = self._pipeline.run()
                clips = torch.from_dlpack(clips.as_tensor())
                return clips.reshape(self.plan.batch, self.plan.views, -1, *clips.shape[-3:])
            except StopIteration:
                self._pipeline.reset()
                return None
            except RuntimeError as error:
                self._revive(error)

    def _revive(self, error: RuntimeError) -> None:
        """Rebuild the pipeline after DALI gave it up, without the videos that it cannot decode."""
        in_flight, self._in_flight = list(self._in_flight), deque()
        culprits, paths, head = 0, [], self._feeder.head
        for prepared in in_flight:
            for place, row in enumerate(prepared.row_B.tolist()):
                if row < 0:
                    continue
                paths.append(self._feeder.catalog.path(row))
                if not self._decodes(prepared.samples[place]):
                    self._feeder.give_up(row, f"{paths[-1]}: {head} cannot decode it")
                    prepared.samples[place] = placeholder(head, *prepared.samples[place].order_VT.shape)
                    prepared.row_B[place] = -1
                    culprits += 1
        if not culprits:
            raise DataError(
                f"decoding failed, but each video alone decodes: {', '.join(paths[:16])}: {error}"
            ) from error
        self._coming = itertools.chain(in_flight, self._coming)
        self._pipeline = self._build(self._next_columns, self.plan.batch)

    def _decodes(self, sample: Sample) -> bool:
        """Whether the decode head takes this video when it is alone."""
        once = iter([Prepared([sample], np.zeros(1, np.int64)).columns(self._feeder.head)])
        try:
            self._build(lambda: next(once), 1).run()
        except RuntimeError:
            return False
        return True
