"""A limit of the bytes that are in memory between a store and the cutting threads."""

from __future__ import annotations

import threading
import weakref

from dali_pipes.storage.ending import program_ends

_LOOK = 1.0  # seconds between looks at whether the program ends


class Room:
    """Room for `most` bytes. One thread takes it, in the order in which others give it back."""

    def __init__(self, most: int):
        self.most = most
        self.taken = 0
        self._given_back = threading.Condition()

    def take(self, size: int, owner: object) -> None:
        """Take room until `owner` is no longer in use; wait while there is none. More than all is taken alone."""
        with self._given_back:
            while self.taken and self.taken + size > self.most and not program_ends.is_set():
                self._given_back.wait(_LOOK)
            self.taken += size
        weakref.finalize(owner, self._give_back, size)

    def _give_back(self, size: int) -> None:
        with self._given_back:
            self.taken -= size
            self._given_back.notify()
