"""A network that is trained by several ranks: its gradients averaged by DistributedDataParallel, its buffers shared."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.distributed.group import world_size


def wrap(model: nn.Module) -> nn.Module:
    """`model`, already on its device, so that its gradients are averaged over the ranks.

    Buffers are not exchanged at every step: training reads none of them, and `share_buffers` does it for evaluation.
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


def share_buffers(model: nn.Module) -> None:
    """Give every rank rank 0's buffers: each rank's batch norms have seen other clips."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
