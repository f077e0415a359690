"""The group of processes that train together: who they are, how they join each other, and their common watch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from configs import ConfigError
from engine.watch import Watch

START = timedelta(minutes=10)  # for all ranks to be started
NO_LIMIT = timedelta(hours=24)  # of torch's own; `watch` ends waits, and knows which rank is to blame

OTHER_LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")  # srun, mpirun
LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

_host: dist.ProcessGroup | None = None
_watch: Watch | None = None


class PeerFailed(Exception):
    """Another rank failed and has said why; this one has nothing to add."""


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """This process's number on its host: also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def attempt() -> int:
    """Return how often torchrun has restarted the ranks (--max-restarts) before it started this process."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def host_group() -> dist.ProcessGroup | None:
    """Return the group that exchanges numbers of the hosts' processes over gloo; None with one process."""
    return _host


def common_watch() -> Watch | None:
    """Return the watch over all ranks; None outside of `processes`."""
    return _watch


@contextmanager
def processes(device: str, limit: float = 300.0) -> Iterator[Watch]:
    """Join the processes that torchrun started, if it did, and watch them as long as the block runs.

    A wait without progress for `limit` seconds ends all of them. Inside of another such block, this does nothing.
    """
    global _watch
    if _watch:
        yield _watch
        return
    started = _launched()
    _watch = Watch(limit, *_join(device)) if started else Watch(limit)
    try:
        with _watch:
            yield _watch
    finally:
        _watch = None
    if started:  # not after an error: an orderly end needs peers that answer
        dist.destroy_process_group()


def _launched() -> bool:
    """Return True if torchrun started this process. Raises if its environment is incomplete."""
    missing = [name for name in LAUNCH_VARIABLES if name not in os.environ]
    present = [name for name in LAUNCH_VARIABLES if name in os.environ]
    if missing and present:
        raise ConfigError(
            f"environment: {', '.join(present)} set but not {', '.join(missing)}; "
            f"start several processes with torchrun, or unset {', '.join(present)} to run one"
        )
    tasks = {name: os.environ[name] for name in OTHER_LAUNCHERS if os.environ.get(name, "1") != "1"}
    for name, number in tasks.items() if not present else ():
        raise ConfigError(
            f"environment: {name}={number}: each of {number} tasks would train by itself; start one torchrun a node, "
            "such as: srun --ntasks-per-node 1 torchrun --nnodes $SLURM_NNODES --nproc-per-node GPUS "
            "--rdzv-backend c10d --rdzv-endpoint FIRST_NODE:29500 train.py ...; see docs/multi_node.md"
        )
    return bool(present)


def _join(device: str) -> tuple[int, int, dist.Store]:
    """Join the other ranks; return this rank, the number of ranks, and a client of the store for another thread."""
    global _host
    if device == "cuda":
        _take_gpu()
    this_rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "nccl" if device == "cuda" else "gloo"
    store = _store()
    dist.init_process_group(backend, store=store, rank=this_rank, world_size=ranks, timeout=NO_LIMIT)
    _host = dist.new_group(backend="gloo", timeout=NO_LIMIT)
    return this_rank, ranks, _store()


def _store() -> dist.Store:
    """Connect to the store of this attempt.

    torchrun serves one store to all attempts: without a prefix a restarted rank would read addresses of dead peers.
    """
    store, _, _ = next(dist.rendezvous("env://", timeout=START))
    return dist.PrefixStore(f"attempt-{attempt()}", store)


def _take_gpu() -> None:
    """Give this process the GPU of its number. Raises ConfigError, once a host, where there are too few."""
    gpus, started = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", local_rank() + 1))
    if started > gpus:
        if local_rank() > 0:
            raise PeerFailed
        raise ConfigError(
            f"torchrun: has started {started} processes on a host where each sees {gpus} GPUs, and each needs one of "
            f"its own; take --nproc-per-node {gpus}, or let all processes see all GPUs (CUDA_VISIBLE_DEVICES)"
        )
    torch.cuda.set_device(local_rank())
