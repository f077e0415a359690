"""Train a network on several ranks: average gradients by DistributedDataParallel, share buffers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.distributed.group import world_size


def wrap(model: nn.Module) -> nn.Module:
    """Wrap `model`, already on its device, in DistributedDataParallel.

    Buffers are not broadcast at every step: training does not read them, and `share_buffers` does it for evaluation.
    """
    if world_size() == 1:
        return model
    known = inspect.signature(DistributedDataParallel).parameters
    if "forward_sync_buffers" not in known:  # older than torch 2.13
        return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
    return DistributedDataParallel(
        model, forward_sync_buffers=False, gradient_as_bucket_view=True, batched_grad_copy="batched_grad_copy" in known
    )


def averaged(ddp_model: nn.Module, now: bool) -> AbstractContextManager:
    """Return a context for a forward and backward pass: average gradients over the ranks now, or accumulate them."""
    return ddp_model.no_sync() if isinstance(ddp_model, DistributedDataParallel) and not now else nullcontext()


def fix_ddp_buckets(model: nn.Module, ddp_model: nn.Module, clips_BTCHW: Tensor, autocast: Callable) -> None:
    """Let DDP build its final gradient buckets now, by two passes over `clips_BTCHW` that do not change `model`.

    DDP rebuilds its buckets after the first step, which changes the order of summation with three or more ranks. A
    resumed run would start with other buckets than the uninterrupted one, and not be bit-identical to it.
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


def share_buffers(model: nn.Module) -> None:
    """Broadcast rank 0's buffers, because batch norms have other statistics on each rank."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
