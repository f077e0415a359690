"""Taking turns at work that is many short system calls.

Each such call lets go of the interpreter's lock. Where a second thread waits for that, each call wakes it, which takes
longer than the call, and several threads together do less than one alone. So one works at a time, and wakes the next
when it is done; who has to wait for a disk lets the others go on meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_turn = threading.Lock()


@contextmanager
def in_turn() -> Iterator[None]:
    """Work while no other thread does."""
    with _turn:
        yield


@contextmanager
def out_of_turn() -> Iterator[None]:
    """Inside `in_turn`: wait, or work long outside the interpreter's lock, and let the others go on."""
    _turn.release()
    try:
        yield
    finally:
        _turn.acquire()


def read_in_turn(descriptor: int, size: int, offset: int) -> bytes | bytearray:
    """Up to `size` bytes at `offset`; none only at the end of the file. Inside `in_turn`.

    What is in the page cache is read at once. Raises OSError as `os.pread` does.
    """
    data = bytearray(size)
    try:
        count = os.preadv(descriptor, [data], offset, os.RWF_NOWAIT)
    except OSError:  # it is not in the cache, or that can't be asked, or it can't be read, as is said below
        count = 0
    if count == size:
        return data
    if count:
        return data[:count]
    with out_of_turn():
        return os.pread(descriptor, size, offset)
