"""Taking turns at work that is many short system calls.

Each such call lets go of the interpreter's lock. Where a second thread waits for the lock, each call wakes it, which
takes longer than the call, and several threads together do less than one alone. So one thread works at a time, and
wakes the next when it is done; a thread that has to wait for a disk lets the others go on meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dali_pipes.errors import DataError, attempt
from dali_pipes.video.packet_table import Video

_turn = threading.Lock()


@contextmanager
def holding_read_lock() -> Iterator[None]:
    """Work while no other thread does."""
    with _turn:
        yield


@contextmanager
def releasing_read_lock() -> Iterator[None]:
    """Release the read lock of `holding_read_lock` while this thread waits, or works outside the GIL."""
    _turn.release()
    try:
        yield
    finally:
        _turn.acquire()


def read_cached(descriptor: int, size: int, offset: int) -> bytes | bytearray:
    """Inside `holding_read_lock`: up to `size` bytes at `offset`; none only at the end of the file.

    What is in the page cache is read at once, all else out of turn. Raises OSError as `os.pread` does.
    """
    data = bytearray(size)
    try:
        count = os.preadv(descriptor, [data], offset, os.RWF_NOWAIT)
    except OSError:  # it is not in the cache; or that cannot be asked; or it cannot be read, which `pread` will say
        count = 0
    if count == size:
        return data
    if count:
        return data[:count]
    with releasing_read_lock():
        return os.pread(descriptor, size, offset)


Read = Callable[[int, int, int], bytes | bytearray]  # (descriptor, size, offset) -> up to `size` bytes, as os.pread


@contextmanager
def _opened(videos: Sequence[Video]) -> Iterator[list[int | DataError]]:
    """A descriptor of each file, or why there is none. They are closed after the block, whatever happens in it."""
    descriptors: list[int | DataError] = []
    try:
        for video in videos:
            descriptors.append(attempt(_open_unchanged, video))
        yield descriptors
    finally:
        for descriptor in descriptors:
            if not isinstance(descriptor, DataError):
                os.close(descriptor)


def _open_unchanged(video: Video) -> int:
    """A descriptor of the file, which is still the one that was scanned."""
    try:
        descriptor = os.open(video.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DataError(video.path, f"cannot be opened ({error.strerror}); it was there when scanned") from error
    if problem := _changed(video, descriptor):
        os.close(descriptor)
        raise DataError(video.path, f"{problem}; scan the list again")
    return descriptor


def _changed(video: Video, descriptor: int) -> str:
    """How the open file differs from the one that was scanned; empty where it does not."""
    try:
        now = os.fstat(descriptor)
    except OSError as error:  # a network file system may lose a file while it is open
        return f"cannot be looked at ({error.strerror})"
    if now.st_size != video.size:
        return f"changed since the scan ({now.st_size} bytes instead of {video.size})"
    return "" if now.st_mtime_ns == video.mtime_ns else "changed since the scan (another time stamp)"


def _read(video: Video, descriptor: int, offset: int, size: int, read: Read) -> bytes | bytearray:
    """`size` bytes at `offset`; the kernel may hand them over in parts."""
    try:
        data = read(descriptor, size, offset)
        while len(data) < size and (more := read(descriptor, size - len(data), offset + len(data))):
            data += more
    except OSError as error:
        raise DataError(video.path, f"cannot be read at byte {offset} ({error.strerror})") from error
    if len(data) < size:
        raise DataError(video.path, f"ends at byte {offset + len(data)}, inside a packet; scan the list again")
    return data
