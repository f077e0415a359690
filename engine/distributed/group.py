"""The group of processes that train together: who they are, and the watch over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from engine.distributed.joining import Joined, is_launched, join
from engine.watch import Watch

_joined: Joined | None = None
_watch: Watch | None = None


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """This process's number on its host: also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def restarts() -> int:
    """Return how often torchrun had started all ranks before, because one had failed or a node had joined or left."""
    return _joined.starts if _joined else 0


def host_group() -> dist.ProcessGroup | None:
    """Return the group that exchanges numbers of the hosts' processes over gloo; None with one process."""
    return _joined and _joined.host_group


def common_watch() -> Watch | None:
    """Return the watch over all ranks; None outside of `processes`."""
    return _watch


@contextmanager
def processes(device: str, limit: float = 300.0) -> Iterator[Watch]:
    """Join the processes that torchrun started, if it did, and watch them as long as the block runs.

    A wait without progress for `limit` seconds ends all of them. Inside of another such block, this does nothing.
    """
    global _joined, _watch
    if _watch:
        yield _watch
        return
    _joined = join(device, limit) if is_launched() else None
    _watch = Watch(limit, _joined.rank, _joined.ranks, _joined.store) if _joined else Watch(limit)
    try:
        with _watch:
            yield _watch
    finally:
        _watch = None
    if _joined:  # not after an error: an orderly end needs peers that answer
        dist.destroy_process_group()
        _joined = None
