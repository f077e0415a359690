"""Retry reads while storage fails temporarily, before a video counts as unreadable."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

from dali_pipes.storage.ending import program_ends

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds; together one minute
MANY = 3  # if this many other files fail in the same minute, the storage is the cause
FAULTS = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EREMOTEIO, errno.EHOSTDOWN)
"""Errors of a disk, a server or a network, rather than of a file."""

Result = TypeVar("Result")
logger = logging.getLogger(__name__)
_lock = threading.Lock()
_failing: set[str] = set()  # files whose reads are failing now
_given_up: dict[str, float] = {}  # files whose retries all failed, with the time


class StorageFault(OSError):
    """The storage fails: several files at once, or according to a store. No video is quarantined for it."""

    @property
    def passes(self) -> bool:
        """Return True if the fault may be temporary; False if the user has to fix access or a name."""
        return self.errno in FAULTS


def with_retries(
    path: str, waiting: Callable[[], AbstractContextManager], call: Callable[..., Result], *arguments: object
) -> Result:
    """Return `call(*arguments)`; if storage fails, retry with growing pauses inside `waiting()`.

    Raises the last OSError if all retries fail for this file, StorageFault if MANY other files fail in the same minute.
    """
    try:
        return call(*arguments)  # a clip needs up to a hundred calls, so the successful path does nothing else
    except OSError as error:
        if error.errno not in FAULTS:
            raise
        return _try_again(error, path, waiting, partial(call, *arguments))


def _try_again(
    error: OSError, path: str, waiting: Callable[[], AbstractContextManager], call: Callable[[], Result]
) -> Result:
    with _lock:
        first = not _failing
        _failing.add(path)
    if first:
        logger.warning(f"{path}: {error.strerror}; trying again for {sum(PAUSES):.0f} s")
    try:
        for pause in PAUSES:
            with waiting():
                if program_ends.wait(pause):
                    break
            try:
                return call()
            except OSError as again:
                if again.errno not in FAULTS:
                    raise
                error = again
        raise _given_up_for(path, error)
    finally:
        with _lock:
            _failing.discard(path)


def _given_up_for(path: str, error: OSError) -> OSError:
    """Return the exception for a file whose retries all failed: its error, or a StorageFault.

    For an object it is always a StorageFault, since a store reports missing objects explicitly.
    """
    if "://" in path:
        return StorageFault(error.errno, f"{error.strerror}, after {sum(PAUSES):.0f} s of trying again", path)
    with _lock:
        now = time.monotonic()
        others = (_failing | {file for file, at in _given_up.items() if now - at < sum(PAUSES)}) - {path}
        _given_up[path] = now
    if len(others) >= MANY:
        reason = f"{error.strerror}, and so for {len(others)} other files: storage fails"
        return StorageFault(error.errno, reason, path)
    return error
