"""The process group of a training, and the watch over its ranks."""

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
    """Return this process's rank."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Return this process's rank on its host, which is also the index of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def restarts() -> int:
    """Return the number of restarts by torchrun, because a rank failed or a node joined or left."""
    return _joined.starts if _joined else 0


def host_group() -> dist.ProcessGroup | None:
    """Return the gloo group for numbers on the host; None with one process."""
    return _joined and _joined.host_group


def common_watch() -> Watch | None:
    """Return the watch over all ranks; None outside of `processes`."""
    return _watch


@contextmanager
def processes(device: str, limit: float) -> Iterator[Watch]:
    """Join the processes that torchrun started, if any, and watch them during the block.

    A wait without progress for `limit` seconds ends all of them. Inside another such block, this does nothing.
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
    if _joined:  # not after an error: destroying the group needs peers that answer
        dist.destroy_process_group()
        _joined = None
