"""Read byte ranges of files, one thread at a time, and check that the files are unchanged since the scan.

Reading packets takes many short system calls, and each of them releases the GIL. If a second thread waits for the GIL,
each call wakes it, which takes longer than the call: several threads together are slower than one. So threads hold a
lock of this project while they read, and release it while they wait for a disk.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from dali_pipes.errors import DataError, attempt
from dali_pipes.storage.cache import CachedVideo
from dali_pipes.storage.faults import StorageFault, with_retries
from dali_pipes.storage.fetch import Fetched
from dali_pipes.storage.open_shards import OpenShards
from dali_pipes.storage.opening import split_member
from dali_pipes.video.packet_table import Video

_read_lock = threading.Lock()
_shards = OpenShards()
_reading: dict[int, str] = {}  # the file that each thread is reading now


def in_progress() -> str:
    """Return the paths of the files that threads of this process are reading now."""
    return ", ".join(sorted({*_reading.copy().values()}))


class mark_in_progress:
    """A context in which `path` counts as a file in progress; a class, because a generator would be slower."""

    __slots__ = ("_path",)

    def __init__(self, path: str):
        self._path = path

    def __enter__(self) -> None:
        _reading[threading.get_ident()] = self._path

    def __exit__(self, *_: object) -> None:
        del _reading[threading.get_ident()]


@contextmanager
def holding_read_lock() -> Iterator[None]:
    """Hold the read lock during the block."""
    with _read_lock:
        yield


@contextmanager
def releasing_read_lock() -> Iterator[None]:
    """Release the read lock of `holding_read_lock` during the block, in which this thread waits or works without the
    GIL.
    """
    _read_lock.release()
    try:
        yield
    finally:
        _read_lock.acquire()


def read_cached(descriptor: int, size: int, offset: int) -> bytes | bytearray:
    """Read up to `size` bytes at `offset`, as `os.pread` does; for use inside `holding_read_lock`.

    Data in the page cache is read at once. To wait for a disk, the read lock is released.
    """
    data = bytearray(size)
    try:
        count = os.preadv(descriptor, [data], offset, os.RWF_NOWAIT)
    except OSError:  # not in the page cache, or the file system cannot tell, or unreadable, which `pread` will report
        count = 0
    if count == size:
        return data
    if count:
        return data[:count]
    with releasing_read_lock():
        return os.pread(descriptor, size, offset)


FromStore = Fetched | CachedVideo | DataError | None  # None: the video is in a file
Opened = int | Fetched | DataError
Read = Callable[[int, int, int], bytes | bytearray]  # (descriptor, size, offset) -> up to `size` bytes, as os.pread


@contextmanager
def opened(videos: Sequence[Video], fetched: Sequence[FromStore]) -> Iterator[list[Opened]]:
    """Open the files for the block; yield for each its descriptor, or the error if it cannot be used.

    Videos that were fetched from a store are passed through. Shards stay open after the block.
    """
    descriptors: list[Opened] = []
    thread = threading.get_ident()
    try:
        for video, found in zip(videos, fetched, strict=True):
            _reading[thread] = video.path
            descriptors.append(found or attempt(_take_shard if video.start_byte else _open_unchanged, video))
        _reading.pop(thread, None)
        yield descriptors
    finally:
        _reading.pop(thread, None)
        for video, descriptor in zip(videos, descriptors, strict=False):
            if isinstance(descriptor, int):
                (_shards.give_back if video.start_byte else os.close)(descriptor)


def _take_shard(video: Video) -> int:
    """Return the descriptor of the shard that contains a video."""
    path, _ = split_member(video.path)
    try:
        return _shards.take(path, video.mtime_ns)
    except StorageFault:
        raise
    except OSError as error:
        raise DataError(path, f"cannot be opened ({error.strerror}); it was there when scanned") from error


def _open_unchanged(video: Video) -> int:
    """Open the file and check that it has not changed since the scan."""
    try:
        descriptor = with_retries(video.path, nullcontext, os.open, video.path, os.O_RDONLY | os.O_CLOEXEC)
    except StorageFault:
        raise
    except OSError as error:
        raise DataError(video.path, f"cannot be opened ({error.strerror}); it was there when scanned") from error
    if problem := _changed(video, descriptor):
        os.close(descriptor)
        raise DataError(video.path, f"{problem}; scan the list again")
    return descriptor


def _changed(video: Video, descriptor: int) -> str:
    """Return the difference between the open file and the scanned one; empty if there is none."""
    try:
        now = os.fstat(descriptor)
    except OSError as error:  # a network file system may lose a file while it is open
        return f"cannot be looked at ({error.strerror})"
    if now.st_size != video.size:
        return f"changed since the scan ({now.st_size} bytes instead of {video.size})"
    return "" if now.st_mtime_ns == video.mtime_ns else "changed since the scan (another time stamp)"


def read_ranges(
    video: Video, descriptor: int | Fetched, ranges: Sequence[tuple[int, int]]
) -> list[bytes | bytearray | memoryview]:
    """Read these (offset, bytes) of the video, inside `holding_read_lock`. Raises DataError if it has fewer bytes."""
    start = video.start_byte
    if isinstance(descriptor, Fetched):
        return [descriptor.read(start + offset, size) for offset, size in ranges]
    try:
        found = [read_cached(descriptor, size, start + offset) for offset, size in ranges]
        if list(map(len, found)) == [size for _, size in ranges]:
            return found
    except OSError:
        pass  # the read below will meet the error again
    # The storage fails, or the file has changed. Only now read range by range, which is slower but names the error.
    return [read_range(video, descriptor, offset, size, read_cached) for offset, size in ranges]


def read_range(
    video: Video, descriptor: int | Fetched, offset: int, size: int, read: Read
) -> bytes | bytearray | memoryview:
    """Read `size` bytes of the video at `offset`, in as many calls as the kernel needs. Raises DataError if there are
    fewer.
    """
    offset += video.start_byte
    if isinstance(descriptor, Fetched):
        return descriptor.read(offset, size)
    waiting = releasing_read_lock if read is read_cached else nullcontext
    try:
        data = with_retries(video.path, waiting, read, descriptor, size, offset)
        while len(data) < size:
            more = with_retries(video.path, waiting, read, descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
    except StorageFault:
        raise
    except OSError as error:
        raise DataError(video.path, f"cannot be read at byte {offset} ({error.strerror})") from error
    if len(data) < size:
        raise DataError(video.path, f"ends at byte {offset + len(data)}, inside a packet; scan the list again")
    return data
