"""Fetch byte ranges of many videos in stores at once: what cuts need, in as few requests as it takes.

All requests of many videos are under way together, on one event loop in a thread. The waiting is obstore's, outside of
the interpreter's lock. The answer to the first request of each video says if the object is still the one that was
scanned, so no request is made for that alone.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from functools import lru_cache
from typing import Any, NamedTuple

from dali_pipes.errors import DataError
from dali_pipes.storage.faults import StorageFault, patiently
from dali_pipes.storage.objects import CHANGED, answer_to, library, open_store, stamp_of_object
from dali_pipes.storage.opening import split_member
from dali_pipes.storage.shards import index_path, stamp_of

GAP = 16 << 10  # bytes between two ranges that are fetched along: less than what a connection brings during a request
NEARLY_ALL = 0.9  # part of a video; who wants more gets the whole in one request
AT_ONCE = 192  # videos under way: some requests are late, and others go on meanwhile

_ENDING = 5.0  # seconds for cancelled requests to end
_LIBRARY_ENDING = 0.3  # more of them: threads of the library call the interpreter once more for each, also at its end

Ranges = Sequence[tuple[int, int]]  # (offset in the video, bytes), ascending


class Wanted(NamedTuple):
    """Ranges of a video, as the scan found it."""

    path: str
    start_byte: int  # place in its shard; 0: an object for itself
    size: int  # bytes of the video
    stamp: int
    ranges: Ranges


class Fetched:
    """Ranges of a video in memory. Offsets count from the start of its object, as those of an open file."""

    def __init__(self, ranges: Ranges, contents: Sequence[memoryview]):
        self._ranges, self._contents = ranges, contents
        self._at = 0  # ranges are read in ascending order
        self.size = sum(map(len, contents))

    def read(self, offset: int, size: int) -> memoryview:
        """Return bytes of one of the ranges."""
        if offset < self._ranges[self._at][0]:
            self._at = 0
        while offset >= sum(self._ranges[self._at]):
            self._at += 1
        start = offset - self._ranges[self._at][0]
        return self._contents[self._at][start : start + size]


Outcome = Fetched | DataError | OSError  # OSError: something that may pass


def begin(wanted: Sequence[Wanted]) -> Future[list[Outcome]]:
    """Begin to fetch the ranges of videos."""
    return asyncio.run_coroutine_threadsafe(_fetch_all(wanted), _loop(os.getpid()))


def finish(wanted: Sequence[Wanted], begun: Future[list[Outcome]]) -> list[Fetched | DataError]:
    """Wait for what `begin` has begun. What a store did not answer is asked for again, in growing pauses.

    Raises StorageFault if the store refuses, or fails throughout.
    """
    found = begun.result()
    for place, outcome in enumerate(found):
        if isinstance(outcome, StorageFault):
            raise outcome
        if isinstance(outcome, OSError):
            found[place] = patiently(wanted[place].path, nullcontext, _fetch_again, wanted[place])
    return found


def end_cancelled() -> None:
    """Wait until the requests of cancelled futures have ended, for a few seconds at most."""
    if _loop.cache_info().currsize:
        _end(os.getpid(), everything=False)


def _end(process: int, everything: bool) -> None:
    if process == os.getpid():  # a fork has no such thread
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_ended(everything), _loop(process)).result(_ENDING)


async def _ended(everything: bool) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if everything:
        for task in tasks:
            task.cancel()
    if ending := [task for task in tasks if task.cancelling()]:
        await asyncio.wait(ending)
        await asyncio.sleep(_LIBRARY_ENDING)


def _fetch_again(wanted: Wanted) -> Fetched | DataError:
    (outcome,) = begin([wanted]).result()
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


async def _fetch_all(wanted: Sequence[Wanted]) -> list[Outcome]:
    return await asyncio.gather(*map(_fetch, wanted))


async def _fetch(wanted: Wanted) -> Outcome:
    ranges = [(wanted.start_byte + offset, size) for offset, size in joined(wanted.ranges, wanted.size)]
    member = split_member(wanted.path) if wanted.start_byte else None
    url = member[0] if member else wanted.path
    try:
        async with _limit(os.getpid()):
            meta, *contents = await _request(url, ranges)
            stamp = await _stamp_of_shard(url, meta) if member else stamp_of_object(meta)
    except Exception as error:
        return answer_to(url, error)
    if stamp != wanted.stamp:
        return DataError(wanted.path, CHANGED)
    contents = [memoryview(content) for content in contents]
    if [len(content) for content in contents] != [size for _, size in ranges]:
        return DataError(
            wanted.path, f"ends inside a packet, at {meta['size']} bytes of its object; scan the list again"
        )
    return Fetched(ranges, contents)


async def _request(url: str, ranges: Ranges) -> list[Any]:
    """Return what the first answer says about the object, then the content of each range."""
    if len(ranges) == 1:
        return await _first(url, *ranges[0])
    store, key = open_store(url)
    starts, lengths = zip(*ranges[1:], strict=True)
    # The library joins ranges by default that are up to 1 MiB apart, which is nearly all of a video.
    others = library(url).get_ranges_async(store, key, starts=starts, lengths=lengths, coalesce=0)
    first, contents = await asyncio.gather(_first(url, *ranges[0]), others)
    return [*first, *contents]


async def _first(url: str, offset: int, size: int) -> list[Any]:
    """Return what the answer says about the object, and a range of it.

    Takes four times as much processor time as a range without what is said about the object.
    """
    store, key = open_store(url)
    answer = await library(url).get_async(store, key, options={"range": (offset, offset + size)})
    return [answer.meta, await answer.bytes_async()]


_shard_stamps: dict[tuple[str, int], int] = {}  # by URL and stamp of the object


async def _stamp_of_shard(url: str, meta: dict[str, Any]) -> int:
    """Return the stamp of a shard's members. Its index is read once for each version of the shard."""
    key = url, stamp_of_object(meta)
    if key not in _shard_stamps:
        try:
            store, name = open_store(index_path(url))
            text = await (await library(url).get_async(store, name)).bytes_async()
            _shard_stamps[key] = stamp_of(text.to_bytes(), meta["size"])
        except FileNotFoundError:
            _shard_stamps[key] = key[1]
    return _shard_stamps[key]


def bytes_of(wanted: Wanted) -> int:
    """Return the number of bytes that are fetched of a video."""
    return sum(size for _, size in joined(wanted.ranges, wanted.size))


def joined(ranges: Ranges, size: int) -> list[tuple[int, int]]:
    """Join the ranges that lie near each other; the whole video of `size` bytes if they are nearly all of it."""
    merged: list[tuple[int, int]] = []
    for offset, length in ranges:
        if merged and offset - sum(merged[-1]) <= GAP:
            offset, length = merged[-1][0], offset + length - merged.pop()[0]
        merged.append((offset, length))
    return [(0, size)] if sum(length for _, length in merged) > NEARLY_ALL * size else merged


@lru_cache
def _loop(process: int) -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="store", daemon=True).start()
    atexit.register(_end, process, everything=True)  # answers would come to an interpreter that is no more
    return loop


@lru_cache
def _limit(process: int) -> asyncio.Semaphore:
    return asyncio.Semaphore(AT_ONCE)
