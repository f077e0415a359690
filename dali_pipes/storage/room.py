"""A limit of the bytes in memory between a store and the cutting threads."""

from __future__ import annotations

import threading
import weakref

from dali_pipes.storage.ending import program_ends

_LOOK = 1.0  # seconds between checks for the end of the program


class Room:
    """A budget of `most` bytes. One thread reserves them, others release them in the same order."""

    def __init__(self, most: int):
        self.most = most
        self.taken = 0
        self._given_back = threading.Condition()

    def take(self, size: int, owner: object) -> None:
        """Reserve bytes until `owner` is garbage collected; wait while the budget is used up. A request above `most`
        waits until it is the only one.
        """
        with self._given_back:
            while self.taken and self.taken + size > self.most and not program_ends.is_set():
                self._given_back.wait(_LOOK)
            self.taken += size
        weakref.finalize(owner, self._give_back, size)

    def _give_back(self, size: int) -> None:
        with self._given_back:
            self.taken -= size
            self._given_back.notify()
