"""Runs the graph over a plan's batches: the only place that runs a DALI pipeline, and that brings one back to life.

One undecodable file makes DALI invalidate the whole pipeline without naming it. The runner therefore remembers what is
in flight, finds the culprit by running each video alone, remembers it as unreadable, and goes on from the same batch.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from nvidia.dali import Pipeline
from torch import Tensor

from configs.schema import Config
from dali_pipes.device import clip_dtype
from dali_pipes.errors import DataError, Unreadable
from dali_pipes.feed import nvdec
from dali_pipes.feed.feeder import Feeder
from dali_pipes.feed.graph import Head, clip_graph
from dali_pipes.feed.samples import PreparedBatch, Sample, placeholder
from dali_pipes.scan.catalog import Catalog
from dali_pipes.views.plans import Place, Plan

FAILURES = (RuntimeError, MemoryError)  # how DALI says that something is wrong
_WHERE = ("Critical error", "Current pipeline", "Stacktrace", "C++ context", "[frame")  # lines that say only where
_MEMORY = re.compile("out of memory|alloc")


class GraphRunner:
    """A plan's batches from one decode head: prepared by its threads, some ahead, and made into clips by the graph."""

    def __init__(self, config: Config, plan: Plan, catalog: Catalog, head: Head, device: torch.device, threads: int):
        self.plan = plan
        self._config = config
        self._device = device
        self._threads = threads
        self._feeder = Feeder(catalog, head, threads)
        self._prepared = self._feeder.batches(plan, iter(()), 0)
        self._coming: Iterator[PreparedBatch] = iter(())
        self._in_flight: deque[PreparedBatch] = deque()
        self._mistake: RuntimeError | None = None  # of our own source
        self._pipeline: Pipeline | None = None
        try:
            self._pipeline = self._build(self._next_columns, plan.batch)
        except FAILURES as error:
            raise DataError(
                f"DALI cannot work on {device}",
                f"{dali_reason(error)}; its build for CUDA 13 needs NVIDIA driver 580 or newer, "
                f"and with an older one nvidia-dali-cuda120 in its place (and a torch for CUDA 12)",
            ) from error

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

    def next(self) -> tuple[PreparedBatch, Tensor] | None:
        """A batch and its clips, BVTHWC; None behind the last. Raises DataError when decoding fails for no video."""
        clips_BVTHWC = self._run()
        return None if clips_BVTHWC is None else (self._in_flight.popleft(), clips_BVTHWC)

    def close(self) -> None:
        """Stop all threads."""
        self._prepared.close()
        self._feeder.close()

    def _build(self, source, batch: int) -> Pipeline:
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
        try:
            prepared = next(self._coming)  # StopIteration ends the run
            self._in_flight.append(prepared)
            return prepared.columns(self._feeder.head)
        except RuntimeError as error:
            self._mistake = error
            raise

    def _run(self) -> Tensor | None:
        """The next batch of clips, BVTHWC; None behind the last."""
        while True:
            try:
                if self._pipeline is None:
                    self._pipeline = self._build(self._next_columns, self.plan.batch)
                (clips,) = self._pipeline.run()
                clips = torch.from_dlpack(clips.as_tensor())
            except StopIteration:
                self._pipeline.reset()
                return None
            except FAILURES as error:
                if self._mistake:
                    raise self._mistake from None
                self._drop_undecodable_videos(error)
            else:
                return clips.reshape(self.plan.batch, self.plan.views, -1, *clips.shape[-3:])

    def _drop_undecodable_videos(self, error: Exception) -> None:
        """Go on without the pipeline that DALI gave up, and without the videos that it cannot decode.

        Raises DataError where that is no video's fault.
        """
        self._pipeline = None  # and its memory is free
        head, blank = self._feeder.head, placeholder(self._feeder.head, self.plan.views, self.plan.frames)
        if reason := self._refusal(blank):
            raise self._failure(reason) from error
        in_flight, self._in_flight = list(self._in_flight), deque()
        culprits, paths = 0, []
        for prepared in in_flight:
            for place, row in enumerate(prepared.row_B.tolist()):
                if row < 0:
                    continue
                paths.append(self._feeder.catalog.path(row))
                reason = self._refusal(prepared.samples[place])
                if _MEMORY.search(reason):
                    raise self._failure(f"{paths[-1]}: {reason}") from error
                if reason:
                    self._feeder.give_up(row, f"{head} cannot decode it ({reason})")
                    prepared.samples[place] = blank
                    prepared.row_B[place] = -1
                    culprits += 1
        if not culprits:
            raise self._failure(f"{dali_reason(error)}; each video alone decodes: {', '.join(paths[:16])}") from error
        self._coming = itertools.chain(in_flight, self._coming)

    def _failure(self, reason: str) -> DataError:
        """What to say where decoding fails, and for no video's sake."""
        what = f"decoding by {self._feeder.head} on {self._device} failed"
        if _MEMORY.search(reason):
            return DataError(what, f"{reason}; if memory is short, take a smaller train.batch or eval.batch")
        return DataError(what, reason)

    def _refusal(self, sample: Sample) -> str:
        """Why the decode head does not take a video when it is alone; empty where it does."""
        once = iter([PreparedBatch([sample], np.zeros(1, np.int64)).columns(self._feeder.head)])
        try:
            self._build(lambda: next(once), 1).run()
        except FAILURES as error:
            return dali_reason(error)
        return ""


@cache
def why_nvdec_fails(device: torch.device) -> str:
    """Decode a picture with NVDEC on this GPU and return the reason if that fails, else an empty string."""
    sample = placeholder("nvdec", 1, 1)
    once = iter([PreparedBatch([sample], np.zeros(1, np.int64)).columns("nvdec")])
    how = {"batch_size": 1, "num_threads": 1, "device_id": device.index or 0}
    looks = {"views": 1, "size": 32, "antialias": True, "mean": (0, 0, 0), "std": (1, 1, 1), "half": True}
    try:
        nvdec.library()  # without it DALI's words would be about an error number
        clip_graph(lambda: next(once), head="nvdec", device="gpu", **looks, **how).run()
    except (OSError, *FAILURES) as error:
        return f"NVDEC does not work here: {dali_reason(error)}"
    return ""


def dali_reason(error: Exception) -> str:
    """Return the reason of a DALI error in one line, without stack traces and places in the graph."""
    text = str(error)
    text = text.partition("encountered:")[2] or text
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(_WHERE)]
    reason = re.sub(r"^(\[[^\]]*\] *)?(Assert on \".*?\" failed: )?", "", " ".join(lines[:2]))
    return reason or type(error).__name__
