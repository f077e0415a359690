"""Keep shards open between cuts, with one file descriptor per shard."""

from __future__ import annotations

import os
import threading
from contextlib import nullcontext

from dali_pipes.errors import DataError
from dali_pipes.storage.faults import with_retries
from dali_pipes.storage.objects import CHANGED
from dali_pipes.storage.opening import index_of
from dali_pipes.storage.sources import LocalFile

MOST_OPEN = 256  # most open shards; more only while they are being read


class _OpenShard:
    """An open shard; `users` is the number of calls that are reading it."""

    def __init__(self, path: str):
        self.path, self.users = path, 0
        self.file = with_retries(path, nullcontext, LocalFile, path)
        self.state = _state(os.fstat(self.file.descriptor))
        self.stamp = index_of(path, self.file.stamp, self.file.size).stamp


class OpenShards:
    """The open shards of a process."""

    def __init__(self, most: int = MOST_OPEN):
        self._most = most
        self._lock = threading.Lock()
        self._newest: dict[str, _OpenShard] = {}  # by path, in the order of last use
        self._taken: dict[int, _OpenShard] = {}  # by descriptor

    def take(self, path: str, stamp: int) -> int:
        """Return the descriptor of a shard; call `give_back` afterwards.

        The path is checked, because an open file does not show that it was replaced. Raises DataError if the shard
        changed since the scan, OSError if it cannot be opened.
        """
        state = _state(with_retries(path, nullcontext, os.stat, path))
        with self._lock:
            shard = self._newest.pop(path, None)
            if shard and shard.state != state:
                self._close_if_idle(shard)
                shard = None
            shard = self._newest[path] = shard or _OpenShard(path)
            if shard.stamp != stamp:
                raise DataError(path, CHANGED)
            shard.users += 1
            self._taken[shard.file.descriptor] = shard
            return shard.file.descriptor

    def give_back(self, descriptor: int) -> None:
        """End a use of a descriptor. Close replaced shards and, if too many are open, the least recently used one."""
        with self._lock:
            shard = self._taken[descriptor]
            shard.users -= 1
            if self._newest.get(shard.path) is not shard:
                self._close_if_idle(shard)
            elif len(self._newest) > self._most:
                oldest = next(iter(self._newest))
                if not self._newest[oldest].users:
                    self._close_if_idle(self._newest.pop(oldest))

    def _close_if_idle(self, shard: _OpenShard) -> None:
        if not shard.users:
            self._taken.pop(shard.file.descriptor, None)
            shard.file.close()


def _state(status: os.stat_result) -> tuple[int, ...]:
    """Return the fields of a file status that change when the file is replaced or written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
