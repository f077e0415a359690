"""Fetch byte ranges of many videos in stores at once: what cuts need, in as few requests as it takes.

Each video has a thread of a pool, which waits in obstore, outside of the interpreter's lock. The answer to the first
request of a video says if the object is still the one that was scanned, so no request is made for that alone.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

from dali_pipes.errors import DataError
from dali_pipes.storage.ending import program_ends
from dali_pipes.storage.faults import StorageFault, patiently
from dali_pipes.storage.objects import CHANGED, answer_to, library, open_store, stamp_of_object
from dali_pipes.storage.opening import split_member
from dali_pipes.storage.shards import index_path, stamp_of

GAP = 16 << 10  # bytes between two ranges that are fetched along: less than what a connection brings during a request
NEARLY_ALL = 0.9  # part of a video; who wants more gets the whole in one request
AT_ONCE = 192  # videos under way: some requests are late, and others go on meanwhile

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


def begin(wanted: Sequence[Wanted]) -> list[Future[Outcome]]:
    """Begin to fetch the ranges of videos."""
    return [_pool(os.getpid()).submit(_fetch, one) for one in wanted]


def cancel(begun: Sequence[Future[Outcome]]) -> None:
    """Drop what `begin` has begun. Requests that are under way end by themselves."""
    for future in begun:
        future.cancel()


def finish(wanted: Sequence[Wanted], begun: Sequence[Future[Outcome]]) -> list[Fetched | DataError]:
    """Wait for what `begin` has begun. What a store did not answer is asked for again, in growing pauses.

    Raises StorageFault if the store refuses, or fails throughout.
    """
    found = [future.result() for future in begun]
    for place, outcome in enumerate(found):
        if isinstance(outcome, StorageFault):
            raise outcome
        if isinstance(outcome, OSError):
            found[place] = patiently(wanted[place].path, nullcontext, _fetch_again, wanted[place])
    return found


def _fetch_again(wanted: Wanted) -> Fetched | DataError:
    outcome = _fetch(wanted)
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


def _fetch(wanted: Wanted) -> Outcome:
    if program_ends.is_set():  # what is still queued is for nobody
        return InterruptedError()
    ranges = [(wanted.start_byte + offset, size) for offset, size in joined(wanted.ranges, wanted.size)]
    member = split_member(wanted.path) if wanted.start_byte else None
    url = member[0] if member else wanted.path
    try:
        obstore, (store, key) = library(url), open_store(url)
        answer = obstore.get(store, key, options={"range": (ranges[0][0], sum(ranges[0]))})
        if wanted.stamp != (_stamp_of_shard(url, answer.meta) if member else stamp_of_object(answer.meta)):
            return DataError(wanted.path, CHANGED)
        contents = [memoryview(content) for content in (answer.bytes(), *_others(obstore, store, key, ranges[1:]))]
    except Exception as error:
        return answer_to(url, error)
    if [len(content) for content in contents] != [size for _, size in ranges]:
        return DataError(
            wanted.path, f"ends inside a packet, at {answer.meta['size']} bytes of its object; scan the list again"
        )
    return Fetched(ranges, contents)


def _others(obstore: ModuleType, store: Any, key: str, ranges: Ranges) -> Sequence[Any]:
    """Return the content of each range. Takes less processor time than answers that say something about their object.

    The library joins ranges by default that are up to 1 MiB apart, which is nearly all of a video.
    """
    if not ranges:
        return []
    starts, lengths = zip(*ranges, strict=True)
    return obstore.get_ranges(store, key, starts=starts, lengths=lengths, coalesce=0)


_shard_stamps: dict[tuple[str, int], int] = {}  # by URL and stamp of the object
_shard_locks: defaultdict[tuple[str, int], threading.Lock] = defaultdict(threading.Lock)


def _stamp_of_shard(url: str, meta: dict[str, Any]) -> int:
    """Return the stamp of a shard's members. Its index is read once for each version of the shard."""
    key = url, stamp_of_object(meta)
    with _shard_locks[key]:  # an epoch begins with many clips of a shard at once
        if key not in _shard_stamps:
            try:
                store, name = open_store(index_path(url))
                text = library(url).get(store, name).bytes()
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
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the pool of a process: a fork has none of the threads of its parent."""
    return ThreadPoolExecutor(AT_ONCE, "store")
