"""Processes that train together: who they are, and what they tell each other. The only importer of torch.distributed.

Gradients travel over NCCL on GPUs (inside `wrap`); everything else is a few numbers on the host and travels over gloo,
so that no exchange here waits for a GPU. With one process every function is a no-op.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from configs import ConfigError
from engine import watch
from engine.watch import ANSWER, Watch

START = timedelta(minutes=10)  # for all ranks to be started
NO_LIMIT = timedelta(hours=24)  # of torch's own; `watch` ends waits, and knows which rank is to blame
GLOO_SAYS = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "Timed out waiting")

OTHER_LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")  # srun, mpirun
LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

Result = TypeVar("Result")
_host: dist.ProcessGroup | None = None
_watch: Watch | None = None


class PeerFailed(Exception):
    """Another rank failed and has said why; this one has nothing to add."""


class PeerLost(Exception):
    """Another rank has gone, or does not answer, and told nobody why."""


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


@contextmanager
def explained() -> Iterator[None]:
    """Tell the other ranks of an error of this one; name the rank that failed if torch raises because of another.

    Raises PeerLost then, on every rank, with the reason of the rank that failed, if it could still report one.
    """
    try:
        yield
    except PeerFailed as error:
        reason = _watch and _watch.reported("failed")
        raise PeerFailed(reason or str(error)) from error
    except Exception as error:
        if not _is_about_peers(error):
            report("failed", f"rank {rank()}: {type(error).__name__}: {error}")
            raise
        reason = failure() or f"lost a rank ({str(error).splitlines()[0]})"
        raise PeerLost(f"{reason}; train.py --resume continues after the last checkpoint") from error


def _is_about_peers(error: Exception) -> bool:
    """Return True for an error of torch that another rank has caused."""
    if world_size() == 1:
        return False
    from_gloo = isinstance(error, RuntimeError) and any(words in str(error) for words in GLOO_SAYS)
    return from_gloo or isinstance(error, PeerLost | dist.DistError)


def report(key: str, text: str) -> None:
    """Tell the other ranks something that none of them has to wait for."""
    if _watch:
        _watch.report(key, text)


def on_report(key: str, call: Callable[[str], None]) -> None:
    """Let the thread of the watch call `call` with what a rank reports under a key."""
    if _watch:
        _watch.on_report[key] = call


def failure() -> str | None:
    """Return the reason of a rank that has failed, or a sentence about ranks that have died; None if all are there."""
    if world_size() == 1:
        return None
    end = time.monotonic() + ANSWER
    while not (reason := _watch.reported("failed")) and time.monotonic() < end:
        time.sleep(0.1)
    dead = [] if reason else _watch.silent_ranks()
    sentence = "; ".join(f"rank {lost} died without a message: {_watch.last_activity(lost)}" for lost in dead)
    return reason or sentence or None


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


@contextmanager
def _exchange(name: str) -> Iterator[None]:
    """Exchange something between the hosts' processes. Raises PeerLost if a rank has gone."""
    try:
        with watch.doing(f"waiting for the other ranks in {name}", joint=True):
            yield
    except RuntimeError as error:
        raise PeerLost(str(error)) from error


def all_sum(numbers: Tensor) -> Tensor:
    """`numbers`, a tensor of any shape, summed over the ranks, on the host; integers are exact."""
    numbers = numbers.detach().cpu()
    if world_size() > 1:
        numbers = numbers.clone()
        with _exchange("all_sum"):
            dist.all_reduce(numbers, group=_host)
    return numbers


def differentiable_sum(numbers: Tensor) -> Tensor:
    """Sum a tensor over the ranks on its own device; its gradient is the sum of all ranks' gradients."""
    return _Sum.apply(numbers) if world_size() > 1 else numbers


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, numbers: Tensor) -> Tensor:
        total = numbers.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


def any_rank(flag: bool) -> bool:
    """Return True if `flag` is set on at least one rank."""
    return flag if world_size() == 1 else bool(all_sum(torch.tensor(int(flag))))


def gather(value: Result) -> list[Result]:
    """Every rank's `value` (anything picklable), in the order of the ranks, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Result] = [value] * world_size()
    with _exchange("gather"):
        dist.all_gather_object(values, value, group=_host)
    return values


def to_rank_zero(value: Result) -> list[Result] | None:
    """Every rank's `value` (anything picklable), in the order of the ranks, on rank 0; None on the others."""
    if world_size() == 1:
        return [value]
    values: list[Result] | None = [value] * world_size() if rank() == 0 else None
    with _exchange("to_rank_zero"):
        dist.gather_object(value, values, dst=0, group=_host)
    return values


def from_rank_zero(value: Result) -> Result:
    """Rank 0's `value` (anything picklable), on every rank."""
    if world_size() == 1:
        return value
    values = [value]
    with _exchange("from_rank_zero"):
        dist.broadcast_object_list(values, src=0, group=_host)
    return values[0]


def on_every_rank(work: Callable[[], Result]) -> Result:
    """`work()` on every rank at once. Where it fails on any, all raise: that one its error, others `PeerFailed`."""
    return one_rank_first(work, turns=1)


def on_rank_zero(work: Callable[[], Result]) -> Result | None:
    """Rank 0's `work()`, None on the others; raises as `on_every_rank` does."""
    return on_every_rank(lambda: work() if rank() == 0 else None)


def one_rank_first(work: Callable[[], Result], turns: int = 3) -> Result:
    """Like `on_every_rank`, but rank 0 works first, then the first rank of every other host, then all others.

    What rank 0 leaves on a shared disk, or the first rank of a host on a local one, the others find there.
    """
    mine = 0 if rank() == 0 else min(turns - 1, 1 if local_rank() == 0 else 2)
    result, error = None, None
    for turn in range(turns):
        if turn == mine:
            try:
                result = work()
            except Exception as caught:  # reported to the other ranks first, raised below
                error = caught
        _check_peers(error)
    return result


def _check_peers(error: Exception | None) -> None:
    failed = torch.tensor(int(error is not None))
    if world_size() > 1:
        with _exchange("on_every_rank"):
            dist.all_reduce(failed, group=_host)
    if error is not None:
        raise error
    if failed:
        raise PeerFailed


def raise_everywhere(error: Exception) -> None:
    """Raise an error that every rank has seen: as itself on rank 0, which reports it, as `PeerFailed` on the others."""
    raise error if rank() == 0 else PeerFailed


def share_buffers(model: nn.Module) -> None:
    """Give every rank rank 0's buffers: each rank's batch norms have seen other clips."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def wrap(model: nn.Module) -> nn.Module:
    """`model`, already on its device, so that its gradients are averaged over the ranks.

    Buffers are not exchanged at every step: training reads none of them, and `share_buffers` does it for evaluation.
    """
    if world_size() == 1:
        return model
    known = inspect.signature(DistributedDataParallel).parameters
    if "forward_sync_buffers" not in known:  # older than torch 2.13
        return DistributedDataParallel(model, broadcast_buffers=False)
    return DistributedDataParallel(model, forward_sync_buffers=False, batched_grad_copy="batched_grad_copy" in known)


def averaged(ddp_model: nn.Module, now: bool) -> AbstractContextManager:
    """Around a forward and backward pass: whether gradients are averaged over the ranks now, or with those to come."""
    return ddp_model.no_sync() if isinstance(ddp_model, DistributedDataParallel) and not now else nullcontext()


def fix_ddp_buckets(model: nn.Module, ddp_model: nn.Module, clips_BTCHW: Tensor, autocast: Callable) -> None:
    """Let DDP choose its gradient buckets now, by two passes over `clips_BTCHW` that leave no trace in `model`.

    DDP rebuilds its buckets after the first step, which changes the order in which three or more ranks are summed: a
    resumed run would start with other buckets than the uninterrupted one had, and not be bit-identical to it.
    """
    if world_size() == 1:
        return
    buffers = [buffer.clone() for buffer in model.buffers()]
    for _ in range(2):
        with autocast():
            loss = ddp_model(clips_BTCHW).sum()
        loss.backward()
        model.zero_grad(set_to_none=True)
    for buffer, kept in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(kept)
