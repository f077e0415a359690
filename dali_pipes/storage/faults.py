"""Tries again where storage fails for a while, before a video is given up for it."""

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

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds; a minute together
MANY = 3  # other files that fail in the same minute: then it is not the files
FAULTS = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EREMOTEIO, errno.EHOSTDOWN)
"""Errors of a disk, a server or a network, rather than of a file."""

Result = TypeVar("Result")
logger = logging.getLogger(__name__)
_lock = threading.Lock()
_failing: set[str] = set()  # files that storage fails for at this moment
_given_up: dict[str, float] = {}  # those that it has failed for throughout, and when


class StorageFault(OSError):
    """Storage fails, for several files at once, or as a store says: no video is to blame, or put into quarantine."""

    @property
    def passes(self) -> bool:
        """True if storage may come back by itself; False if somebody has to mend access or a name."""
        return self.errno in FAULTS


def patiently(
    path: str, waiting: Callable[[], AbstractContextManager], call: Callable[..., Result], *arguments: object
) -> Result:
    """Return `call(*arguments)`; try it again, in growing pauses inside of `waiting()`, if storage fails.

    Raises the last OSError if this file fails throughout, StorageFault if MANY others do in the same minute.
    """
    try:
        return call(*arguments)  # a clip takes up to a hundred calls, so nothing else is done for one that succeeds
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
    """Return what to raise for a file that is given up: its error, or a fault of the storage.

    An object is never to blame: a store says so if it has none.
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
