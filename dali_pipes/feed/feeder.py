"""Threads that prepare batches, some of them ahead: what views show is read and cut, for the `pyav` head also decoded.

A video that cannot be read becomes a placeholder whose row is −1, and is remembered with its reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np
from torch import Tensor

from dali_pipes.cut.decode import decode_frames, decode_pictures
from dali_pipes.device import compute_alone
from dali_pipes.errors import DataError, Unreadable
from dali_pipes.feed.clip_maker import ClipMaker
from dali_pipes.feed.graph import Head
from dali_pipes.feed.samples import PreparedBatch, Sample, placeholder, prepare
from dali_pipes.scan.catalog import Catalog
from dali_pipes.views.draw import Views
from dali_pipes.views.plans import Place, Plan

PART = 16  # videos that a thread prepares at once: enough to make the calls to NumPy cheap for each


class _Pending(NamedTuple):
    """A batch in preparation: each future gives the samples of a part of it."""

    views: Views
    futures: list[Future]
    clips_BVTHWC: Tensor | None


class Feeder:
    """Prepares batches ahead in threads. `unreadable` has the videos found bad here, by row.

    With a `maker` (head: pyav) the threads also make the clips, and a batch comes with its clips instead of its frames.
    """

    def __init__(self, catalog: Catalog, head: Head, threads: int, maker: ClipMaker | None = None):
        self.catalog = catalog
        self.head = head
        self.unreadable: dict[int, Unreadable] = {}
        self._threads = threads
        self._maker = maker
        self._decode = decode_pictures if maker else decode_frames
        self._pool = ThreadPoolExecutor(threads, "cut", compute_alone if maker else None)

    def batches(self, plan: Plan, places: Iterable[Place], ahead: int) -> Iterator[PreparedBatch]:
        """The batches of `plan` at these places, with `ahead` more of them in preparation."""
        pending: deque[_Pending] = deque()
        try:
            for place in places:
                pending.append(self._submit(plan.draw(*place)))
                if len(pending) > ahead:
                    yield self._collect(pending)
            while pending:
                yield self._collect(pending)
        finally:
            futures = chain.from_iterable(batch.futures for batch in pending)
            running = [future for future in futures if not future.cancel()]
            wait(running)  # whoever comes next has the threads, and the cores, to themselves

    def give_up(self, row: int, reason: str) -> None:
        """Remember that the video of this row cannot be read."""
        self.unreadable.setdefault(int(row), Unreadable(int(row), self.catalog.path(int(row)), reason))

    def close(self) -> None:
        """Stop all threads."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, views: Views) -> _Pending:
        """Have a batch prepared, in parts of about equal size: one a thread, or more where those would be too large."""
        count = len(views.row_B)
        clips_BVTHWC = self._maker.empty(count, *views.frames_BVT.shape[1:]) if self._maker else None
        size = min(PART, -(-count // self._threads))
        parts = [slice(first, first + size) for first in range(0, count, size)]
        rooms = [None if clips_BVTHWC is None else clips_BVTHWC[part] for part in parts]
        futures = [
            self._pool.submit(self._samples, views.part(part), room) for part, room in zip(parts, rooms, strict=True)
        ]
        return _Pending(views, futures, clips_BVTHWC)

    def _collect(self, pending: deque[_Pending]) -> PreparedBatch:
        """The first of the batches in preparation, which leaves them once it is ready."""
        samples = list(chain.from_iterable(future.result() for future in pending[0].futures))
        views, _, clips_BVTHWC = pending.popleft()
        row_B = np.where([sample is None for sample in samples], -1, views.row_B)
        blank = placeholder(self.head, *views.frames_BVT.shape[1:])
        return PreparedBatch([sample or blank for sample in samples], row_B, clips_BVTHWC)

    def _samples(self, views: Views, room_BVTHWC: Tensor | None) -> list[Sample | None]:
        """The sample of each video; None where none can be read. Where there is room for clips, they are made."""
        samples: list[Sample | None] = [None] * len(views.row_B)
        good = [place for place, row in enumerate(views.row_B.tolist()) if row >= 0 and row not in self.unreadable]
        views = views.part(good)
        videos = [self.catalog.video(row) for row in views.row_B.tolist()]
        prepared = prepare(videos, self.head, views, self._decode)
        for place, row, sample in zip(good, views.row_B.tolist(), prepared, strict=True):
            if isinstance(sample, DataError):
                self.give_up(row, sample.reason_for(self.catalog.path(row)))
            else:
                samples[place] = sample if room_BVTHWC is None else self._made(sample, room_BVTHWC[place])
        if room_BVTHWC is not None:
            room_BVTHWC[[sample is None for sample in samples]] = 0
        return samples

    def _made(self, sample: Sample, room_VTHWC: Tensor) -> Sample:
        """The sample without its frames, which are now clips."""
        self._maker.make(*sample.video, sample.order_VT, sample.box_V4, sample.mirror_V, room_VTHWC)
        return replace(sample, video=())
