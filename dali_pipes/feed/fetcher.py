"""The stage before the cutting threads for videos in stores: a thread plans, and requests are under way far ahead."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from configs.schema import Data
from dali_pipes.cut.cutter import wanted_of_cuts
from dali_pipes.cut.reading import FromStore
from dali_pipes.feed.samples import distinct
from dali_pipes.scan.catalog import Catalog
from dali_pipes.storage import fetch
from dali_pipes.storage.cache import VideoCache
from dali_pipes.storage.fetch import Fetched, Wanted
from dali_pipes.storage.objects import is_url
from dali_pipes.storage.room import Room
from dali_pipes.views.draw import Views

CLIPS_AHEAD = 512  # some requests take a hundred times as long as most: the clips behind them are there by then
GB = 10**9
MOST_BYTES = 256 << 20  # requested and not yet cut


class FetchedPart:
    """Begun requests for some videos, by their places among the views."""

    def __init__(self, wanted: dict[int, Wanted], room: Room, cache: VideoCache | None):
        self._cache = cache
        self._in_cache = {place: video for place, video in wanted.items() if cache and cache.has(video)}
        self._wanted = {place: video for place, video in wanted.items() if place not in self._in_cache}
        self._to_keep = [place for place, video in self._wanted.items() if cache and cache.takes(video)]
        self._wanted |= {place: wanted[place].whole() for place in self._to_keep}
        if self._to_keep:
            weakref.finalize(self, cache.forget, [wanted[place] for place in self._to_keep])
        room.take(sum(map(fetch.bytes_of, self._wanted.values())), self)
        self._begun = fetch.begin(list(self._wanted.values())) if self._wanted else None

    def finish(self, places: Sequence[int]) -> list[FromStore]:
        """Wait for the videos; return those at these places. Raises StorageFault if the store refuses or fails."""
        found: dict[int, FromStore] = {}
        if self._begun:
            found |= zip(self._wanted, fetch.finish(list(self._wanted.values()), self._begun), strict=True)
        for place in self._to_keep:
            if isinstance(content := found[place], Fetched):
                found[place] = self._cache.keep(self._wanted[place], content) or content
        found |= {place: self._cache.find(video) for place, video in self._in_cache.items()}
        if lost := {place: video for place, video in self._in_cache.items() if not found[place]}:  # or not there yet
            wanted = list(lost.values())
            found |= zip(lost, fetch.finish(wanted, fetch.begin(wanted)), strict=True)
        return [found.get(place) for place in places]


class Fetcher:
    """Fetches what views show of the videos of a catalogue that are in a store."""

    def __init__(self, catalog: Catalog, cache: VideoCache | None = None, most_bytes: int = MOST_BYTES):
        self._catalog, self._cache = catalog, cache
        self._room = Room(most_bytes)
        self._pool = ThreadPoolExecutor(1, "fetch")  # one alone, so that room is taken in the order of the batches

    @classmethod
    def for_catalog(cls, catalog: Catalog, data: Data) -> Fetcher | None:
        """Return a fetcher with the cache that the settings ask for, or None if the videos are in files."""
        if not is_url(catalog.base):
            return None
        cache = VideoCache(data.cache_dir, int(data.cache_gb * GB), catalog.base) if data.cache_dir else None
        return cls(catalog, cache)

    def begin(self, views: Views, known_bad: Sequence[int]) -> Future[FetchedPart]:
        """Begin to fetch what the views show, except padding and rows that are known to be bad."""
        places = [place for place, row in enumerate(views.row_B.tolist()) if row >= 0 and row not in known_bad]
        return self._pool.submit(self._begin, views.part(places), places)

    def _begin(self, views: Views, places: list[int]) -> FetchedPart:
        frames, _ = distinct(views.frames_BVT)
        wanted = wanted_of_cuts([self._catalog.video(row) for row in views.row_B.tolist()], frames)
        return FetchedPart({places[number]: video for number, video in wanted.items()}, self._room, self._cache)

    def close(self) -> None:
        """Stop the thread once it has begun what it is at."""
        self._pool.shutdown(wait=False, cancel_futures=True)
