"""Collectives: sums, gathered values, and work that one rank, or one rank per host, does for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from engine import activity
from engine.distributed.group import host_group, local_rank, rank, world_size
from engine.distributed.joining import PeerFailed, PeerLost

Result = TypeVar("Result")


@contextmanager
def _exchange(name: str) -> Iterator[None]:
    """Wrap an exchange over gloo. Raises PeerLost if a rank is gone."""
    try:
        with activity.doing(f"waiting for the other ranks in {name}", joint=True):
            yield
    except RuntimeError as error:
        raise PeerLost(str(error)) from error


def all_sum(numbers: Tensor) -> Tensor:
    """Return the sum over ranks of `numbers`, a tensor of any shape, on the host; integers are exact."""
    numbers = numbers.detach().cpu()
    if world_size() > 1:
        numbers = numbers.clone()
        with _exchange("all_sum"):
            dist.all_reduce(numbers, group=host_group())
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
    """Return every rank's `value` (picklable), in the order of ranks, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Result] = [value] * world_size()
    with _exchange("gather"):
        dist.all_gather_object(values, value, group=host_group())
    return values


def to_rank_zero(value: Result) -> list[Result] | None:
    """Return every rank's `value` (picklable), in the order of ranks, on rank 0; None on the others."""
    if world_size() == 1:
        return [value]
    values: list[Result] | None = [value] * world_size() if rank() == 0 else None
    with _exchange("to_rank_zero"):
        dist.gather_object(value, values, dst=0, group=host_group())
    return values


def from_rank_zero(value: Result) -> Result:
    """Return rank 0's `value` (picklable) on every rank."""
    if world_size() == 1:
        return value
    values = [value]
    with _exchange("from_rank_zero"):
        dist.broadcast_object_list(values, src=0, group=host_group())
    return values[0]


def on_every_rank(work: Callable[[], Result]) -> Result:
    """Call `work` on every rank. If it fails on one, that rank raises its error and the others `PeerFailed`."""
    return one_rank_first(work, turns=1)


def on_rank_zero(work: Callable[[], Result]) -> Result | None:
    """Call `work` on rank 0 and return its result there, None on the others; raises as `on_every_rank` does."""
    return on_every_rank(lambda: work() if rank() == 0 else None)


def one_rank_first(work: Callable[[], Result], turns: int = 3) -> Result:
    """Call `work` on every rank, but on rank 0 first, then on the first rank of every other host, then on all others.

    So the others find files that rank 0 wrote to a shared disk, or the first rank of their host to a local one.
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


def first_of_each_host(work: Callable[[], Result], others: Callable[[], Result] = lambda: None) -> Result:
    """Call `work` on one rank of each host, rank 0 before the rest, and then `others` on the other ranks.

    For files on a disk that hosts may not share. Raises as `on_every_rank` does.
    """
    return one_rank_first(lambda: work() if local_rank() == 0 else others())


def _check_peers(error: Exception | None) -> None:
    failed = torch.tensor(int(error is not None))
    if world_size() > 1:
        with _exchange("on_every_rank"):
            dist.all_reduce(failed, group=host_group())
    if error is not None:
        raise error
    if failed:
        raise PeerFailed


def raise_everywhere(error: Exception) -> None:
    """Raise an error that occurred on every rank: the error itself on rank 0, which reports it, `PeerFailed` on the
    others.
    """
    raise error if rank() == 0 else PeerFailed
