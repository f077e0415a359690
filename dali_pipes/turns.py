"""Taking turns at work that is many short system calls.

Each such call lets go of the interpreter's lock. Where a second thread waits for the lock, each call wakes it, which
takes longer than the call, and several threads together do less than one alone. So one thread works at a time, and
wakes the next when it is done; a thread that has to wait for a disk lets the others go on meanwhile.
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
    """Inside `in_turn`: let others go on while this thread waits, or works long outside the interpreter's lock."""
    _turn.release()
    try:
        yield
    finally:
        _turn.acquire()


def read_in_turn(descriptor: int, size: int, offset: int) -> bytes | bytearray:
    """Inside `in_turn`: up to `size` bytes at `offset`; none only at the end of the file.

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
    with out_of_turn():
        return os.pread(descriptor, size, offset)
