"""Processes that train together: who they are, and what they tell each other. The only importer of torch.distributed.

Gradients travel over NCCL on GPUs (inside `wrap`); everything else is a few numbers on the host and travels over gloo,
so that no exchange here waits for a GPU. With one process every function is a no-op.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from configs import ConfigError

TIMEOUT = timedelta(minutes=5)  # a rank that is this late is taken for lost
PATIENCE = timedelta(hours=24)  # scanning a large dataset; a rank that dies is noticed at once all the same

LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

Result = TypeVar("Result")
_patient: dist.ProcessGroup | None = None
_host: dist.ProcessGroup | None = None


class PeerFailed(Exception):
    """Another rank failed and has said why; this one has nothing to add."""


class PeerLost(Exception):
    """Another rank has gone, or does not answer, and told nobody why."""


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """This process's number on its host: also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def attempt() -> int:
    """Return how often torchrun has restarted the ranks (--max-restarts) before it started this process."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


@contextmanager
def processes(device: str) -> Iterator[None]:
    """Join the processes that torchrun started, if it did, as long as the block runs; inside of another, do nothing."""
    started = _launched() and not dist.is_initialized()
    if started:
        _join(device)
    yield
    if started:  # not after an error: leaving in good order needs peers that answer
        dist.destroy_process_group()


def _launched() -> bool:
    """Whether torchrun started this process. A half-set environment is an error, never a guess."""
    missing = [name for name in LAUNCH_VARIABLES if name not in os.environ]
    present = [name for name in LAUNCH_VARIABLES if name in os.environ]
    if missing and present:
        raise ConfigError(
            f"environment: {', '.join(present)} set but not {', '.join(missing)}; "
            f"start several processes with torchrun, or unset {', '.join(present)} to run one"
        )
    return bool(present)


def _join(device: str) -> None:
    global _host, _patient
    if device == "cuda":
        _take_gpu()
    store, this_rank, ranks = next(dist.rendezvous("env://", timeout=TIMEOUT))
    # torchrun serves one store to all attempts: without a prefix a restarted rank would read addresses of dead peers
    store = dist.PrefixStore(f"attempt-{attempt()}", store)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=this_rank, world_size=ranks, timeout=TIMEOUT)
    _host = dist.new_group(backend="gloo", timeout=TIMEOUT)
    _patient = dist.new_group(backend="gloo", timeout=PATIENCE)


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
def _answered() -> Iterator[None]:
    """An exchange between the hosts' processes. Raises PeerLost where one has gone: on rank 0, if that is still there.

    What gloo says of it is an address.
    """
    try:
        yield
    except RuntimeError as error:
        raise_everywhere(
            PeerLost(
                f"lost a rank, or {TIMEOUT.total_seconds():.0f} s passed without its answer ({error}); what that rank "
                "printed last, or torchrun's report, says why; train.py --resume goes on from the last checkpoint"
            )
        )


def all_sum(numbers: Tensor) -> Tensor:
    """`numbers`, a tensor of any shape, summed over the ranks, on the host; integers are exact."""
    numbers = numbers.detach().cpu()
    if world_size() > 1:
        numbers = numbers.clone()
        with _answered():
            dist.all_reduce(numbers, group=_host)
    return numbers


def any_rank(flag: bool) -> bool:
    """Whether `flag` is set on at least one rank."""
    return flag if world_size() == 1 else bool(all_sum(torch.tensor(int(flag))))


def gather(value: Result) -> list[Result]:
    """Every rank's `value` (anything picklable), in the order of the ranks, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Result] = [value] * world_size()
    with _answered():
        dist.all_gather_object(values, value, group=_host)
    return values


def to_rank_zero(value: Result) -> list[Result] | None:
    """Every rank's `value` (anything picklable), in the order of the ranks, on rank 0; None on the others."""
    if world_size() == 1:
        return [value]
    values: list[Result] | None = [value] * world_size() if rank() == 0 else None
    with _answered():
        dist.gather_object(value, values, dst=0, group=_host)
    return values


def from_rank_zero(value: Result) -> Result:
    """Rank 0's `value` (anything picklable), on every rank."""
    if world_size() == 1:
        return value
    values = [value]
    with _answered():
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


def wait_for_all() -> None:
    """Let the slowest rank arrive, however late it is: what follows gives up on one that is `TIMEOUT` late."""
    _check_peers(None)


def _check_peers(error: Exception | None) -> None:
    failed = torch.tensor(int(error is not None))
    if world_size() > 1:
        with _answered():
            dist.all_reduce(failed, group=_patient)
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
