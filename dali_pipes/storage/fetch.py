"""Fetch the byte ranges that cuts need of many videos in stores at once, in few requests.

Each video uses a thread of a pool, which waits in obstore without the GIL. The response to the first request of a video
shows if the object is still the one that was scanned, so that needs no extra request.
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
from dali_pipes.storage.faults import StorageFault, with_retries
from dali_pipes.storage.objects import CHANGED, answer_to, library, open_store, stamp_of_object
from dali_pipes.storage.opening import split_member
from dali_pipes.storage.shards import index_path, stamp_of

GAP = 16 << 10  # gaps up to this many bytes are fetched along: transferring them takes less time than a request
NEARLY_ALL = 0.9  # if a larger fraction of a video is needed, all of it is fetched in one request
AT_ONCE = 192  # videos in flight: some requests are slow, and others continue meanwhile

Ranges = Sequence[tuple[int, int]]  # (offset in the video, bytes), ascending


class RangeRequest(NamedTuple):
    """Byte ranges of a video to fetch, and its state at the scan."""

    path: str
    start_byte: int  # offset in its shard; 0 for an object of its own
    size: int  # bytes of the video
    stamp: int
    ranges: Ranges


class Fetched:
    """Fetched byte ranges of a video. Offsets count from the start of its object, as in an open file."""

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


Outcome = Fetched | DataError | OSError  # OSError: a temporary error


def begin(wanted: Sequence[RangeRequest]) -> list[Future[Outcome]]:
    """Start fetching the ranges of videos."""
    return [_pool(os.getpid()).submit(_fetch, one) for one in wanted]


def cancel(begun: Sequence[Future[Outcome]]) -> None:
    """Cancel fetches that `begin` started. Requests in flight finish by themselves."""
    for future in begun:
        future.cancel()


def finish(wanted: Sequence[RangeRequest], begun: Sequence[Future[Outcome]]) -> list[Fetched | DataError]:
    """Wait for fetches that `begin` started. Failed requests are retried with growing pauses.

    Raises StorageFault if the store refuses, or all retries fail.
    """
    found = [future.result() for future in begun]
    for place, outcome in enumerate(found):
        if isinstance(outcome, StorageFault):
            raise outcome
        if isinstance(outcome, OSError):
            found[place] = with_retries(wanted[place].path, nullcontext, _fetch_again, wanted[place])
    return found


def _fetch_again(wanted: RangeRequest) -> Fetched | DataError:
    outcome = _fetch(wanted)
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


def _fetch(wanted: RangeRequest) -> Outcome:
    if program_ends.is_set():  # drop queued fetches, they are no longer needed
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
    """Return the content of each range. This takes less CPU time than requests that also return metadata.

    By default, the library merges ranges that are up to 1 MiB apart, which would fetch nearly the whole video.
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
    with _shard_locks[key]:  # at the start of an epoch, many clips of a shard ask at once
        if key not in _shard_stamps:
            try:
                store, name = open_store(index_path(url))
                text = library(url).get(store, name).bytes()
                _shard_stamps[key] = stamp_of(text.to_bytes(), meta["size"])
            except FileNotFoundError:
                _shard_stamps[key] = key[1]
        return _shard_stamps[key]


def bytes_of(wanted: RangeRequest) -> int:
    """Return the number of bytes that are fetched of a video."""
    return sum(size for _, size in joined(wanted.ranges, wanted.size))


def joined(ranges: Ranges, size: int) -> list[tuple[int, int]]:
    """Merge ranges that are close to each other; return the whole video of `size` bytes if nearly all of it is
    needed.
    """
    merged: list[tuple[int, int]] = []
    for offset, length in ranges:
        if merged and offset - sum(merged[-1]) <= GAP:
            offset, length = merged[-1][0], offset + length - merged.pop()[0]
        merged.append((offset, length))
    return [(0, size)] if sum(length for _, length in merged) > NEARLY_ALL * size else merged


@lru_cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the thread pool of a process: a forked process does not have its parent's threads."""
    return ThreadPoolExecutor(AT_ONCE, "store")
