"""`RemoteObject`, an object of a store as a source with random access, for scans."""

from __future__ import annotations

import io
from contextlib import nullcontext
from typing import BinaryIO

from dali_pipes.errors import DataError
from dali_pipes.storage.faults import with_retries
from dali_pipes.storage.objects import CHANGED, read_range, stamp_of_object
from dali_pipes.storage.sources import SourceFile

FIRST = 1 << 16  # bytes of the first request, and of a request after a jump: enough for the index of most videos
LARGEST = 1 << 23  # bytes of a request after many sequential ones
_HEADER = 64  # a read up to this many bytes counts as a header, and the bytes after it are read next
_KEPT = 3  # cached blocks: a scan alternates between the index, packets and their headers


class RemoteObject:
    """An object of a store. Raises DataError if it does not exist, OSError if the store does not answer."""

    start = 0

    def __init__(self, url: str):
        self.path = url
        self._blocks: list[tuple[int, bytes]] = []  # (offset, content), the newest first
        self._ahead = FIRST
        block, meta = with_retries(url, nullcontext, read_range, url, 0, FIRST)
        self.size, self.stamp = meta["size"], stamp_of_object(meta)
        self._blocks.insert(0, (0, block))

    def read(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self.size - offset))
        kept = next((block for block in self._blocks if block[0] <= offset <= block[0] + len(block[1])), None)
        content = kept[1][offset - kept[0] :] if kept else b""
        if len(content) < size:
            follows = kept is self._blocks[0]
            self._ahead = min(2 * self._ahead, LARGEST) if follows else FIRST
            wanted = size - len(content)
            ahead = self._ahead if (follows and size <= FIRST) or wanted <= _HEADER else 0
            content += self._request(offset + len(content), max(wanted, ahead))
            self._blocks = [(offset, content), *self._blocks[: _KEPT - 1]]
        return content[:size]

    def _request(self, offset: int, size: int) -> bytes:
        block, meta = with_retries(self.path, nullcontext, read_range, self.path, offset, size)
        if stamp_of_object(meta) != self.stamp:
            raise DataError(self.path, CHANGED)
        return block

    def file_object(self) -> BinaryIO | None:
        return io.BufferedReader(SourceFile(self), FIRST)

    def close(self) -> None:
        self._blocks = [(0, b"")]
