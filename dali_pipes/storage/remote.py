"""`RemoteObject`, an object of a store as a source that is read from place to place, as scans do."""

from __future__ import annotations

import io
from contextlib import nullcontext
from typing import BinaryIO

from dali_pipes.errors import DataError
from dali_pipes.storage.faults import patiently
from dali_pipes.storage.objects import CHANGED, read_range, stamp_of_object
from dali_pipes.storage.sources import SourceFile

FIRST = 1 << 16  # bytes of a request after a jump: the index of most videos
LARGEST = 1 << 23  # of a request after many that followed each other
_KEPT = 3  # blocks: a scan goes forth and back between the index, packets and their headers


class RemoteObject:
    """An object of a store. Raises DataError if there is none, OSError if the store does not answer."""

    start = 0

    def __init__(self, url: str):
        self.path = url
        self._blocks: list[tuple[int, bytes]] = []  # (offset, content), the newest first
        self._ahead = FIRST
        block, meta = patiently(url, nullcontext, read_range, url, 0, FIRST)
        self.size, self.stamp = meta["size"], stamp_of_object(meta)
        self._blocks.insert(0, (0, block))

    def read(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self.size - offset))
        for start, block in self._blocks:
            if start <= offset and offset + size <= start + len(block):
                return block[offset - start : offset - start + size]
        newest, content = self._blocks[0]
        follows = newest <= offset <= newest + len(content)
        self._ahead = min(2 * self._ahead, LARGEST) if follows else FIRST
        block = self._request(offset, max(size, self._ahead))
        self._blocks = [(offset, block), *self._blocks[: _KEPT - 1]]
        return block[:size]

    def _request(self, offset: int, size: int) -> bytes:
        block, meta = patiently(self.path, nullcontext, read_range, self.path, offset, size)
        if stamp_of_object(meta) != self.stamp:
            raise DataError(self.path, CHANGED)
        return block

    def file_object(self) -> BinaryIO | None:
        return io.BufferedReader(SourceFile(self), FIRST)

    def close(self) -> None:
        self._blocks = [(0, b"")]
