"""A limit of the bytes in memory between a store and the cutting threads."""

from __future__ import annotations

import threading
import weakref

from dali_pipes.storage.ending import program_ends

_LOOK = 1.0  # seconds between checks for the end of the program


class MemoryBudget:
    """A budget of `most` bytes. One thread reserves them, others release them in the same order."""

    def __init__(self, most: int):
        self.most = most
        self.reserved = 0
        self._released = threading.Condition()

    def reserve(self, size: int, owner: object) -> None:
        """Reserve bytes until `owner` is garbage collected; wait while the budget is used up. A request above `most`
        waits until it is the only one.
        """
        with self._released:
            while self.reserved and self.reserved + size > self.most and not program_ends.is_set():
                self._released.wait(_LOOK)
            self.reserved += size
        weakref.finalize(owner, self._release, size)

    def _release(self, size: int) -> None:
        with self._released:
            self.reserved -= size
            self._released.notify()
