"""Batch norms in training: a common batch counter, statistics over all ranks, precise statistics for evaluation.

Shapes: N samples of a rank, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from engine import activity, distributed


class SyncBatchNorm2d(nn.BatchNorm2d):
    """A batch norm over the samples of all ranks, for devices without torch.nn.SyncBatchNorm, such as CPUs.

    In evaluation, and with one rank, it is torch's batch norm.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if not self.training or distributed.world_size() == 1:
            return super().forward(x_NCHW)
        x32_NCHW = x_NCHW.float()
        count = x_NCHW.numel() // x_NCHW.shape[1]
        sums_2C = torch.stack([x32_NCHW.sum((0, 2, 3)), x32_NCHW.square().sum((0, 2, 3))])
        totals = distributed.differentiable_sum(torch.cat([sums_2C.flatten(), sums_2C.new_tensor([count])]))
        mean_C, square_C = (totals[:-1] / totals[-1]).unflatten(0, (2, -1))
        variance_C = (square_C - mean_C.square()).clamp_min(0)
        if self.track_running_stats:
            self._update(mean_C.detach(), variance_C.detach(), float(totals[-1].detach()))
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        shift_C = self.bias - mean_C * scale_C
        return (x32_NCHW * scale_C[:, None, None] + shift_C[:, None, None]).to(x_NCHW.dtype)

    @torch.no_grad()
    def _update(self, mean_C: Tensor, variance_C: Tensor, count: float) -> None:
        """Update the running statistics as torch's batch norm does, with the unbiased variance."""
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, rate)
        self.running_var.lerp_(variance_C * (count / max(count - 1, 1)), rate)


class Statistics:
    """The running statistics of a network, which can be copied and conditionally restored in a few kernels."""

    def __init__(self, model: nn.Module):
        self._buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]

    def copy(self) -> Tensor:
        """Return a copy of all statistics."""
        return torch.cat([buffer.flatten() for buffer in self._buffers])

    @torch.no_grad()
    def restore_where(self, condition: Tensor, before: Tensor) -> None:
        """Restore a copy if `condition`, a bool on the device, is true."""
        kept = torch.where(condition, before, self.copy()).split([buffer.numel() for buffer in self._buffers])
        torch._foreach_copy_(
            self._buffers, [part.view_as(buffer) for part, buffer in zip(kept, self._buffers, strict=True)]
        )


class UncountedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm whose batches `count_together` counts, because each norm's own counter costs a kernel launch.

    The counter is only read without a momentum (`make_precise`); then this is torch's batch norm.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if not self.training or self.momentum is None:
            return super().forward(x_NCHW)
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x_NCHW, *statistics, self.weight, self.bias, True, self.momentum, self.eps)


def count_together(model: nn.Module) -> list[Tensor]:
    """Stop the batch norms of `model` from counting batches; return the counters, to be incremented in one operation.

    Frozen norms, synchronised norms, and norms of other libraries are not changed.
    """
    norms = [part for part in model.modules() if type(part) is nn.BatchNorm2d and part.training]
    for norm in norms:
        norm.__class__ = UncountedBatchNorm2d  # same parameters and buffers, another forward method
    return [norm.num_batches_tracked for norm in norms]


def synchronize(model: nn.Module, device: torch.device) -> nn.Module:
    """Make the batch norms of `model` use statistics over all ranks; return the model. State keys do not change.

    On a GPU, this uses torch's SyncBatchNorm, which has fused kernels. With one rank, it does nothing.
    """
    if distributed.world_size() == 1:
        return model
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for part in model.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = SyncBatchNorm2d  # same parameters and buffers, another forward method
    return model


@torch.no_grad()
def make_precise(
    model: nn.Module, batches: Iterable[Tensor], autocast: Callable[[], AbstractContextManager], parts: int = 1
) -> int:
    """Set the running statistics of `model` to their mean over `batches` of clips_BTCHW; return the number of batches.

    Each batch goes through the network in `parts`, like in a training step, so that it needs no more memory.

    A running average contains statistics of earlier weights; these are of the current weights, which do not change. All
    ranks call this with the same number of batches, and get the mean over all of them. Source: Wu and Johnson, arXiv
    2105.07576. Frozen norms are not changed.
    """
    training = model.training
    model.train()
    norms = [part for part in model.modules() if isinstance(part, _BatchNorm) and part.training]
    momenta, counts = [norm.momentum for norm in norms], [norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # momentum None: cumulative mean over all batches
    number = 0
    for clips_BTCHW in batches:
        number += 1
        activity.progress()
        for part_BTCHW in clips_BTCHW.chunk(parts):
            with autocast():
                model(part_BTCHW)
    for norm, momentum, count in zip(norms, momenta, counts, strict=True):
        norm.momentum = momentum
        norm.num_batches_tracked.copy_(count)
    _average_over_ranks([buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)])
    model.train(training)
    return number


def _average_over_ranks(buffers: list[Tensor]) -> None:
    """Replace each buffer by its mean over the ranks."""
    if buffers and distributed.world_size() > 1:
        means = distributed.all_sum(torch.cat(buffers)) / distributed.world_size()
        for buffer, mean in zip(buffers, means.split([len(buffer) for buffer in buffers]), strict=True):
            buffer.copy_(mean)
