"""Write objects to a store. An object appears when it is complete; until then, an existing one stays."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from dali_pipes.errors import DataError
from dali_pipes.storage.faults import StorageFault
from dali_pipes.storage.objects import DENIED, answer_to, library, open_store

_PART = 8 << 20  # bytes per part of an object; parts are sent while later ones are written
_WHOLE = 1 << 40  # plain HTTP has no multipart uploads: the object is kept in memory and sent at once
_REFUSED = re.compile(r"status code: (4\d\d)([\w ]*)")  # the library retries 429
_TIMEOUT = timedelta(minutes=10)  # seconds per request


class Upload:
    """A writable file object that becomes an object of a store."""

    def __init__(self, url: str, writer: Any):
        self._url, self._writer, self._at = url, writer, 0

    def write(self, content: bytes) -> int:
        """Append bytes; return their number. Raises OSError if the store fails."""
        try:
            self._writer.write(content)
        except Exception as error:
            raise _answer(self._url, error) from None
        self._at += len(content)
        return len(content)

    def tell(self) -> int:
        return self._at


@contextmanager
def new_object(url: str) -> Iterator[Upload]:
    """Open an object for writing; it appears at the end of the block, unless the block raises.

    Raises DataError if the store refuses the object, OSError if it fails.
    """
    store, key = open_store(url, _TIMEOUT)
    size, ended = _WHOLE if url.startswith("http") else _PART, False
    try:
        with library(url).open_writer(store, key, buffer_size=size) as writer:
            yield Upload(url, writer)
            ended = True
    except Exception as error:
        if not ended:
            raise
        raise _answer(url, error) from None


def _answer(url: str, error: Exception) -> Exception:
    """Return our exception. Only the library's text contains the server's status."""
    answer, refused = answer_to(url, error), _REFUSED.search(str(error))
    if isinstance(answer, (DataError, StorageFault)) or not refused:
        return answer
    if refused[1] in ("401", "403"):
        return StorageFault(errno.EACCES, DENIED, url)
    return DataError(url, f"the store does not take it ({refused[1]}{refused[2]})")
