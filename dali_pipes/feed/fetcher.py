"""Prefetch the byte ranges of videos in stores, before the cutting threads: a thread plans, requests run far ahead."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from configs.schema import Data
from dali_pipes.cut.cutter import ranges_of_cuts, ranges_of_whole_videos
from dali_pipes.cut.reading import FromStore
from dali_pipes.feed.samples import distinct
from dali_pipes.scan.catalog import Catalog
from dali_pipes.storage import fetch
from dali_pipes.storage.cache import VideoCache
from dali_pipes.storage.fetch import Fetched, RangeRequest
from dali_pipes.storage.memory_budget import MemoryBudget
from dali_pipes.storage.objects import is_url
from dali_pipes.video.packet_table import Video
from dali_pipes.views.draw import Views

CLIPS_AHEAD = 2048  # enough while some requests take half a second longer, one after the other
GB = 10**9
MOST_BYTES = 256 << 20  # requested but not yet cut


class FetchedPart:
    """Running requests for the frames of some videos, by the index of their view."""

    def __init__(
        self,
        videos: Mapping[int, Video],
        frames: Mapping[int, np.ndarray],
        budget: MemoryBudget,
        cache: VideoCache | None,
    ):
        self._cache = cache
        self._found: dict[int, FromStore] = {}
        self._to_keep: dict[int, RangeRequest] = {}
        if cache:
            self._ask_cache(cache, videos)
        others = [place for place in videos if place not in self._found and place not in self._to_keep]
        self._wanted = dict(self._to_keep)
        if others:
            planned = ranges_of_cuts([videos[place] for place in others], [frames[place] for place in others])
            self._wanted |= {others[number]: wanted for number, wanted in planned.items()}
        self._begun = None
        if self._wanted:
            budget.reserve(sum(map(fetch.bytes_of, self._wanted.values())), self)
            self._begun = fetch.begin(list(self._wanted.values()))
            weakref.finalize(self, fetch.cancel, self._begun)  # if the part is dropped unfinished

    def finish(self, places: Sequence[int]) -> list[FromStore]:
        """Wait for the data of the videos at these indices and return it. Raises StorageFault if the store refuses or
        fails.
        """
        if self._begun:
            fetched = fetch.finish(list(self._wanted.values()), self._begun)
            self._found |= zip(self._wanted, fetched, strict=True)
        for place, wanted in self._to_keep.items():
            if isinstance(content := self._found[place], Fetched):
                self._found[place] = self._cache.store(wanted, content) or content
        return [self._found.get(place) for place in places]

    def _ask_cache(self, cache: VideoCache, videos: Mapping[int, Video]) -> None:
        """Find the videos that are in the cache, and those that shall be added to it."""
        places = list(videos)
        for number, wanted in ranges_of_whole_videos(list(videos.values())).items():
            if file := cache.find(wanted):
                self._found[places[number]] = file
            elif cache.reserve(wanted):
                self._to_keep[places[number]] = wanted
        if self._to_keep:
            weakref.finalize(self, cache.cancel_reservations, list(self._to_keep.values()))


class Fetcher:
    """Fetches the frames that views need of a catalogue's videos in a store."""

    def __init__(self, catalog: Catalog, cache: VideoCache | None = None, most_bytes: int = MOST_BYTES):
        self._catalog, self._cache = catalog, cache
        self._budget = MemoryBudget(most_bytes)
        self._pool = ThreadPoolExecutor(1, "fetch")  # one thread: memory is reserved in batch order

    @classmethod
    def for_catalog(cls, catalog: Catalog, data: Data) -> Fetcher | None:
        """Return a fetcher with the cache of the settings, or None if the videos are in files."""
        if not is_url(catalog.base):
            return None
        cache = VideoCache(data.cache_dir, int(data.cache_gb * GB), catalog.base) if data.cache_dir else None
        return cls(catalog, cache)

    def begin(self, views: Views) -> Future[FetchedPart]:
        """Start fetching the frames of the views, except padding."""
        places = [place for place, row in enumerate(views.row_B.tolist()) if row >= 0]
        return self._pool.submit(self._begin, views.part(places), places)

    def _begin(self, views: Views, places: list[int]) -> FetchedPart:
        frames, _ = distinct(views.frames_BVT)
        videos = {place: self._catalog.video(row) for place, row in zip(places, views.row_B.tolist(), strict=True)}
        return FetchedPart(videos, dict(zip(places, frames, strict=True)), self._budget, self._cache)

    def close(self) -> None:
        """Stop the thread after its current step."""
        self._pool.shutdown(wait=False, cancel_futures=True)
