"""Start the ranks: read torchrun's environment, wait for all ranks, and create the process groups."""

from __future__ import annotations

import os
import secrets
import time
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist

from configs import ConfigError
from engine import activity
from engine.watch import Watch

ALL_STARTED = 2.0  # multiple of runtime.timeout within which all ranks have to start
NO_LIMIT = timedelta(hours=24)  # timeout of torch's groups; `watch` ends waits, and knows which rank stalls
POLL = 0.05  # seconds

OTHER_LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")  # srun, mpirun
LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class PeerFailed(Exception):
    """Another rank failed and reported the reason; this one prints nothing."""


class PeerLost(Exception):
    """Another rank is gone or does not answer, and did not report a reason."""


class Joined(NamedTuple):
    """The result of joining the other ranks."""

    rank: int
    ranks: int
    host_group: dist.ProcessGroup
    store: dist.Store  # a client for threads other than the main thread
    starts: int  # number of earlier starts of all ranks by this torchrun


def is_launched() -> bool:
    """Return True if torchrun started this process. Raises ConfigError if its environment is incomplete."""
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
            f"environment: {name}={number}: each of {number} tasks would train by itself; start one torchrun per node, "
            "such as: srun --ntasks-per-node 1 torchrun --nnodes $SLURM_NNODES --nproc-per-node GPUS "
            "--rdzv-backend c10d --rdzv-endpoint FIRST_NODE:29500 train.py ...; see docs/multi_node.md"
        )
    return bool(present)


def join(device: str, limit: float) -> Joined:
    """Join the other ranks. Raises PeerLost if some have not started within ALL_STARTED x `limit` seconds."""
    patience, limit = limit, ALL_STARTED * limit
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device == "cuda":
        _take_gpu(int(os.environ["LOCAL_RANK"]))
    store = _connect(limit)
    starts = _welcome_all(store, ranks, limit) if rank == 0 else _be_welcomed(store, rank, limit)
    prefix = f"start-{starts}"
    to_watch = dist.PrefixStore(prefix, _connect(limit))
    with Watch(patience, rank, ranks, to_watch) as watcher:
        try:
            host_group = _make_groups(device, dist.PrefixStore(prefix, store), rank, ranks)
        except Exception as error:
            watcher.report("failed", f"rank {rank}: {type(error).__name__}: {error}")
            raise
    return Joined(rank, ranks, host_group, to_watch, starts - 1)


def _make_groups(device: str, store: dist.Store, rank: int, ranks: int) -> dist.ProcessGroup:
    """Create the default group for gradients, and return a gloo group for numbers on the host."""
    with activity.doing("joining the other ranks", joint=True):
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=NO_LIMIT)
        return dist.new_group(backend="gloo", timeout=NO_LIMIT)


def _connect(limit: float) -> dist.Store:
    """Connect to the store. torchrun serves it, or rank 0 if something else has set the environment."""
    try:
        return next(dist.rendezvous("env://", timeout=timedelta(seconds=limit)))[0]
    except dist.DistError as error:
        reason = str(error).splitlines()[0]
        raise PeerLost(f"not all ranks started within {limit:g} s (twice runtime.timeout): {reason}") from error


def _welcome_all(store: dist.Store, ranks: int, limit: float) -> int:
    """Return the number of this start of all ranks, from 1; wait for the token of each other rank, and send it back.

    All starts of one torchrun share a store, and torchrun does not count every start as a restart: not those after a
    node has joined. So tokens prevent values of dead ranks from being taken for values of living ones.
    """
    number, end = store.add("starts", 1), time.monotonic() + limit
    absent = set(range(1, ranks))
    while absent:
        here = {rank for rank in absent if store.check([f"here-{number}-{rank}"])}
        for rank in here:
            store.set(f"welcome-{number}-{rank}", store.get(f"here-{number}-{rank}"))
        absent -= here
        if absent and time.monotonic() > end:
            names = ", ".join(map(str, sorted(absent)))
            raise PeerLost(f"rank {names} did not start within {limit:g} s (twice runtime.timeout)")
        time.sleep(POLL if absent else 0)
    return number


def _be_welcomed(store: dist.Store, rank: int, limit: float) -> int:
    """Send a token to rank 0 until it comes back; return rank 0's number of this start."""
    token, told, end = secrets.token_hex(8), 0, time.monotonic() + limit
    while time.monotonic() < end:
        number = store.add("starts", 0)  # may be of an earlier start, if rank 0 has not started yet
        if number > told:
            store.set(f"here-{number}-{rank}", token)
            told = number
        answer = f"welcome-{number}-{rank}"
        if number and store.check([answer]) and store.get(answer).decode() == token:
            return number
        time.sleep(POLL)
    raise PeerLost(f"rank 0 did not start within {limit:g} s (twice runtime.timeout)")


def _take_gpu(local_rank: int) -> None:
    """Select the GPU of this process. Raises ConfigError, once per host, if there are too few GPUs."""
    gpus, started = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", local_rank + 1))
    if started > gpus:
        if local_rank > 0:
            raise PeerFailed
        raise ConfigError(
            f"torchrun: has started {started} processes on a host where each sees {gpus} GPUs, and each needs one of "
            f"its own; use --nproc-per-node {gpus}, or let all processes see all GPUs (CUDA_VISIBLE_DEVICES)"
        )
    torch.cuda.set_device(local_rank)
