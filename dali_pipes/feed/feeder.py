"""Prepare batches ahead, in threads: read and cut the frames of the views, and decode them unless the graph does.

A video that cannot be read becomes a placeholder with row −1, and is recorded with the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np
from torch import Tensor

from dali_pipes.device import use_one_torch_thread
from dali_pipes.errors import DataError, Unreadable
from dali_pipes.feed.buffers import BufferPool
from dali_pipes.feed.clip_maker import ClipMaker
from dali_pipes.feed.decoders import BLANK, Decoder
from dali_pipes.feed.fetcher import CLIPS_AHEAD, FetchedPart, Fetcher
from dali_pipes.feed.samples import PreparedBatch, Sample, placeholder, prepare
from dali_pipes.views.draw import Views
from dali_pipes.views.plans import Place, Plan

PART = 16  # videos that a thread prepares at once, to amortise the overhead of NumPy calls

Fetch = Future[FetchedPart] | None  # None if the videos are in files
Choose = Callable[[int, np.ndarray], list[Decoder]]  # (videos before the batch, rows) -> their decoders


class _Pending(NamedTuple):
    """A batch in preparation: each future returns the samples of a part of it."""

    views: Views
    futures: list[Future]
    clips_BVTHWC: Tensor | None


class Feeder:
    """Prepares the batches of a plan ahead, in threads. `unreadable` has the videos that could not be read, by row.

    Unreadable videos are tried again each time. So a batch depends on the files alone, and not on earlier failures,
    which a resumed run does not know.

    `choose` returns the decoder of each video. Frames are decoded into memory of `buffers`. With a `maker`, the threads
    also make the clips, and a batch contains clips instead of frames. Videos in a store are fetched further ahead.
    """

    def __init__(
        self,
        plan: Plan,
        choose: Choose,
        threads: int,
        *,
        maker: ClipMaker | None = None,
        buffers: BufferPool | None = None,
    ):
        self.plan, self.catalog = plan, plan.catalog
        self.unreadable: dict[int, Unreadable] = {}
        self._choose = choose
        self._threads = threads
        self._maker = maker
        self._allocate = None if maker else (buffers or BufferPool()).array
        self._fetcher = Fetcher.for_catalog(plan.catalog, plan.config.data)
        self._pool = ThreadPoolExecutor(threads, "cut", use_one_torch_thread if maker else None)

    def batches(self, places: Iterable[Place], ahead: int) -> Iterator[PreparedBatch]:
        """Yield the batches at these places, and keep `ahead` more in preparation."""
        pending: deque[_Pending] = deque()
        try:
            drawn = ((self.plan.draw(*place), videos_before(self.plan, place)) for place in places)
            for views, number, fetches in self._fetch_ahead(drawn):
                pending.append(self._submit(views, number, fetches))
                if len(pending) > ahead:
                    yield self._collect(pending)
            while pending:
                yield self._collect(pending)
        finally:
            futures = chain.from_iterable(batch.futures for batch in pending)
            running = [future for future in futures if not future.cancel()]
            wait(running)  # free the threads, and the cores, for the next caller

    def prepare_again(self, prepared: PreparedBatch, place: int, decoder: Decoder) -> None:
        """Replace the sample of a video by one of another decoder, or by a placeholder if that fails, too."""
        views = prepared.views.part([place])
        (sample,) = self._read(views, [decoder])
        prepared.samples[place] = sample or placeholder(*views.frames_BVT.shape[1:])
        if sample is None:
            prepared.row_B[place] = -1

    def close(self) -> None:
        """Stop all threads."""
        if self._fetcher:
            self._fetcher.close()
        self._pool.shutdown(cancel_futures=True)

    def _fetch_ahead(self, drawn: Iterator[tuple[Views, int]]) -> Iterator[tuple[Views, int, list[Fetch]]]:
        """Yield each batch with the running fetches of its parts, after starting the fetches of the batches ahead."""
        under_way: deque[tuple[Views, int, list[Fetch]]] = deque()
        try:
            for views, number in drawn:
                parts = self._parts(len(views.row_B))
                if self._fetcher:
                    fetches = [self._fetcher.begin(views.part(part)) for part in parts]
                else:
                    fetches = [None] * len(parts)
                under_way.append((views, number, fetches))
                if not self._fetcher or len(under_way) * len(views.row_B) > CLIPS_AHEAD:
                    yield under_way.popleft()
            while under_way:
                yield under_way.popleft()
        finally:
            for fetch in chain.from_iterable(fetches for _, _, fetches in under_way):
                if fetch:
                    fetch.cancel()

    def _parts(self, count: int) -> list[slice]:
        """Divide a batch into parts of about equal size: one per thread, or more if those would be too large."""
        size = min(PART, -(-count // self._threads))
        return [slice(first, first + size) for first in range(0, count, size)]

    def _submit(self, views: Views, number: int, fetches: list[Fetch]) -> _Pending:
        """Start the preparation of a batch, in parts."""
        count = len(views.row_B)
        decoders = self._choose(number, views.row_B)
        clips_BVTHWC = self._maker.empty(count, *views.frames_BVT.shape[1:]) if self._maker else None
        futures = []
        for part, fetch in zip(self._parts(count), fetches, strict=True):
            room = None if clips_BVTHWC is None else clips_BVTHWC[part]
            futures.append(self._pool.submit(self._samples, views.part(part), decoders[part], room, fetch))
        return _Pending(views, futures, clips_BVTHWC)

    def _collect(self, pending: deque[_Pending]) -> PreparedBatch:
        """Wait for the first batch in preparation and remove it from `pending`."""
        samples = list(chain.from_iterable(future.result() for future in pending[0].futures))
        views, _, clips_BVTHWC = pending.popleft()
        row_B = np.where([sample is None for sample in samples], -1, views.row_B)
        blank = placeholder(*views.frames_BVT.shape[1:])
        return PreparedBatch([sample or blank for sample in samples], row_B, views, clips_BVTHWC)

    def _samples(
        self, views: Views, decoders: list[Decoder], room_BVTHWC: Tensor | None, fetch: Fetch
    ) -> list[Sample | None]:
        """Make the sample of each video; None for unreadable ones. With `room_BVTHWC`, make the clips, too."""
        samples = self._read(views, decoders, fetch)
        if room_BVTHWC is not None:
            samples = [sample and self._made(sample, room) for sample, room in zip(samples, room_BVTHWC, strict=True)]
            room_BVTHWC[[sample is None for sample in samples]] = 0
        return samples

    def _read(self, views: Views, decoders: list[Decoder], fetch: Fetch = None) -> list[Sample | None]:
        """Read each video with its decoder; None for padding and unreadable videos."""
        samples: list[Sample | None] = [None] * len(views.row_B)
        good = [place for place, row in enumerate(views.row_B.tolist()) if row >= 0]
        views = views.part(good)
        videos = [self.catalog.video(row) for row in views.row_B.tolist()]
        fetched = fetch and fetch.result().finish(good)
        prepared = prepare(videos, [decoders[place] for place in good], views, self._allocate, fetched)
        for place, row, sample in zip(good, views.row_B.tolist(), prepared, strict=True):
            if isinstance(sample, DataError):
                path = self.catalog.path(row)
                self.unreadable.setdefault(row, Unreadable(row, path, sample.reason_for(path)))
            else:
                samples[place] = sample
        return samples

    def _made(self, sample: Sample, room_VTHWC: Tensor) -> Sample:
        """Make the clips of a sample and drop its frames."""
        self._maker.make(
            sample.content.frames, sample.order_VT, sample.box_V4, sample.mirror_V, sample.turn, room_VTHWC
        )
        return replace(sample, content=BLANK)


def videos_before(plan: Plan, place: Place) -> int:
    """Return the number of videos before a batch, over all epochs, steps and ranks."""
    epoch, step = place
    return ((epoch * len(plan) + step) * plan.shard.count + plan.shard.index) * plan.batch
