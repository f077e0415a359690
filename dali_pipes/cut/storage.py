"""Tries again where storage fails for a while, before a video is given up for it."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

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
    """Storage fails for several files at once: their videos are not to blame, and none is put into quarantine."""


def patiently(call: Callable[[], Result], path: str, waiting: Callable[[], AbstractContextManager]) -> Result:
    """Return `call()`; try it again, in growing pauses inside of `waiting()`, if storage fails.

    Raises the last OSError if this file fails throughout, StorageFault if MANY others do in the same minute.
    """
    for pause in (*PAUSES, None):
        try:
            result = call()
            with _lock:
                _failing.discard(path)
            return result
        except OSError as error:
            if error.errno not in FAULTS:
                raise
            last = error
        with _lock:
            first = not _failing
            _failing.add(path)
        if pause is None:
            break
        if first:
            logger.warning(f"{path}: {last.strerror}; trying again for {sum(PAUSES):.0f} s")
        with waiting():
            time.sleep(pause)
    with _lock:
        now = time.monotonic()
        others = (_failing | {file for file, at in _given_up.items() if now - at < sum(PAUSES)}) - {path}
        _given_up[path] = now
        _failing.discard(path)
    if len(others) >= MANY:
        raise StorageFault(last.errno, f"{last.strerror}, and so for {len(others)} other files: storage fails", path)
    raise last
