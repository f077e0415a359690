"""One optimizer step: loss, gradients, update, and the sums for the log.

Shapes: B clips, T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torchvision import tv_tensors
from torchvision.transforms.v2 import CutMix, MixUp, RandomChoice

from configs import Config
from dali_pipes import Batch
from engine import distributed, runtime
from engine.train import optim
from engine.train.cuda_graph import Recorded


class LeftOut(NamedTuple):
    """A step with a non-finite loss or gradient on this rank."""

    step: int
    rows: list[int]  # rows of this rank's clips, if its own loss was not finite


class Tally:
    """Sums of loss, hits and clips, kept on the device until `read`, which is the only place where training waits for
    it.
    """

    def __init__(self, device: torch.device):
        self._part = torch.zeros(3, dtype=torch.float64, device=device)  # sums of the current step
        self._sums = torch.zeros(4, dtype=torch.float64, device=device)
        self._steps: list[tuple[int, Tensor, Tensor]] = []  # (number, flags, rows) of each step since the last read
        self._read = self._steps
        self.newest_left_out = torch.zeros((), dtype=torch.bool, device=device)  # number of the newest step

    def add(self, loss_sum: Tensor, logits_BK: Tensor, label_B: Tensor) -> None:
        """Add a part of a step. Rows with label −1 do not count."""
        hits = (logits_BK.argmax(1) == label_B).sum()
        self._part += torch.stack([loss_sum.double(), hits, (label_B >= 0).sum()])

    def end_step(self, step: int, gradient_is_finite: Tensor, index_B: Tensor) -> None:
        """Add a step to the sums, or to the number of skipped steps if its loss or gradient is not finite."""
        loss_is_finite = self._part[0].isfinite()
        left_out = ~(loss_is_finite & gradient_is_finite)
        self._sums[:3] += torch.where(left_out, 0.0, self._part)
        self._sums[3] += left_out
        self._part.zero_()
        self._steps.append((step, torch.stack([left_out, loss_is_finite]), index_B))
        self.newest_left_out = left_out

    def read(self) -> Tensor:
        """Return (loss, hits, clips, skipped steps) since the last read, [4] float64 on the host.

        Waits for the device.
        """
        sums, self._sums = self._sums, torch.zeros_like(self._sums)
        self._read, self._steps = self._steps, []
        return sums.cpu()

    def left_out(self) -> list[LeftOut]:
        """Return the steps that the last `read` counted as skipped."""
        flags = [(step, *flags_2.tolist(), index_B) for step, flags_2, index_B in self._read]
        return [
            LeftOut(step, [] if loss_is_finite else index_B[index_B >= 0].tolist())
            for step, left_out, loss_is_finite, index_B in flags
            if left_out
        ]


Mix = Callable[[Batch], tuple[Batch, Tensor]]
"""A batch -> the batch to train on, and its target. Does not change the batch that it is given."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits_BK and the target -> the sum of the losses of all rows."""


@dataclass(frozen=True)
class StepSettings:
    """The settings of a step that are constant during a run."""

    lr_at: Callable[[int], float]
    """Step -> base learning rate."""
    mix: Mix
    loss: Loss
    parts: int = 1
    """Forward and backward passes that a batch is divided into (train.accumulate)."""
    max_norm: float = math.inf
    """Gradients are clipped to this global norm."""
    autocast: Callable[[], AbstractContextManager] = nullcontext
    """Opens the precision that the forward pass runs in."""


def make_step_settings(config: Config, lr_at: Callable[[int], float]) -> StepSettings:
    """Return the settings of a step of a resolved config."""
    return StepSettings(
        lr_at,
        *make_mix_and_loss(config),
        parts=config.train.accumulate,
        max_norm=config.optim.clip_norm or math.inf,
        autocast=partial(runtime.autocast, config.runtime),
    )


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    batch: Batch,
    step: int,
    settings: StepSettings,
    tally: Tally,
    recorded: Recorded | None = None,
) -> Tensor:
    """Take one optimizer step; return the gradient's global norm before clipping. Never waits for the device.

    Weights and momenta do not change if the gradient is not finite. With `recorded`, the update is a CUDA graph.

    The loss is the sum over readable clips divided by all B rows: rows with label −1 contribute nothing, and the weight
    of the others does not change. So the gradient of a global batch does not depend on the number of ranks, or on the
    number of equal parts of a rank's share. Mixing is the exception: it mixes clips of the same rank.
    """
    optim.set_lr(optimizer, settings.lr_at(step))
    mixed, target = settings.mix(batch)
    work = partial(_update, model, optimizer, scaler, settings)
    inputs = mixed.clips_BTCHW, target, mixed.label_B
    done = recorded(work, *inputs) if recorded else work(*inputs)
    for loss_sum, logits_BK, label_B in done.parts:
        tally.add(loss_sum, logits_BK, label_B)
    # with a gradient scaler, an overflow of the gradient does not count
    tally.end_step(step, torch.ones_like(done.finite) if scaler.is_enabled() else done.finite, batch.index_B)
    return done.grad_norm


class _Done(NamedTuple):
    """The results of an update, on the device."""

    parts: list[tuple[Tensor, Tensor, Tensor]]  # (sum of losses, logits_BK, label_B) of each part of the batch
    grad_norm: Tensor
    finite: Tensor


def _update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    settings: StepSettings,
    *inputs: Tensor,
) -> _Done:
    """Compute gradients for clips_BTCHW, target and label_B, part by part, and update the weights."""
    parts = []
    clips = len(inputs[0])
    chunks = zip(*(tensor.chunk(settings.parts) for tensor in inputs), strict=True)
    for part, (clips_BTCHW, wanted, label_B) in enumerate(chunks, 1):
        with distributed.averaged(model, part == settings.parts):
            with settings.autocast():
                logits_BK = model(clips_BTCHW).float()
            loss_sum = settings.loss(logits_BK, wanted)
            scaler.scale(loss_sum / clips).backward()
        parts.append((loss_sum.detach(), logits_BK.detach(), label_B))
    scaler.unscale_(optimizer)
    grad_norm = clip_grad_norm_(model.parameters(), settings.max_norm, foreach=True)
    finite = grad_norm.isfinite()
    optim.step_if(finite, optimizer, scaler)
    optimizer.zero_grad(set_to_none=True)
    return _Done(parts, grad_norm, finite)


def make_mix_and_loss(config: Config) -> tuple[Mix, Loss]:
    """Return the function that mixes batches (train.mixup, train.cutmix), and the matching loss
    (optim.label_smoothing).
    """
    train, smoothing = config.train, config.optim.label_smoothing
    if train.mixup or train.cutmix:
        mix = Mixture(train.mixup, train.cutmix, config.model.num_classes, config.clip.repeats)
        return mix, partial(share_loss, smoothing=smoothing)
    return no_mixing, partial(label_loss, smoothing=smoothing)


def no_mixing(batch: Batch) -> tuple[Batch, Tensor]:
    """Return the unchanged batch, with its labels as the target."""
    return batch, batch.label_B


class Mixture:
    """Mixes each clip with a clip of the next video of the batch, by mixup or cutmix; with both, one is chosen per
    batch.

    The batch has `repeats` adjacent clips of each video. All clips of a batch and all their frames get the same
    proportion or the same box. Both are drawn from torch's generator on the host, so they depend on the step through
    `runtime.seed_step`. The target is shares_BK, the share of each class. For the training accuracy, a clip's label
    becomes the class with at least half. Sources: Zhang et al., arXiv 1710.09412; Yun et al., arXiv 1905.04899.
    """

    def __init__(self, mixup: float, cutmix: float, classes: int, repeats: int = 1):
        ways = {MixUp: mixup, CutMix: cutmix}
        self._mix = RandomChoice([way(alpha=alpha) for way, alpha in ways.items() if alpha])
        self._classes, self._repeats = classes, repeats

    def __call__(self, batch: Batch) -> tuple[Batch, Tensor]:
        batch = self._apart(batch)
        share_BK = shares(batch.label_B, self._classes)
        video_BTCHW, share_BK = self._mix(tv_tensors.Video(batch.clips_BTCHW), share_BK)
        clips_BTCHW = _in_nhwc_memory(video_BTCHW.as_subclass(Tensor))
        most_B, label_B = share_BK.max(1)
        label_B = torch.where(most_B >= 0.5, label_B, -1)
        return replace(batch, clips_BVTCHW=clips_BTCHW[:, None], label_B=label_B), share_BK

    def _apart(self, batch: Batch) -> Batch:
        """Reorder the batch: the first clip of each video, then the second, and so on; neighbours are mixed."""
        if self._repeats == 1:
            return batch
        count, device = len(batch.label_B), batch.label_B.device  # made there: to copy the order, the host would wait
        order_B = torch.arange(count, device=device).unflatten(0, (-1, self._repeats)).T.flatten()
        return Batch(batch.clips_BVTCHW[order_B], batch.label_B[order_B], batch.index_B[order_B])


def shares(label_B: Tensor, classes: int) -> Tensor:
    """Return [B, K] float32, one-hot labels; rows with label −1 are zero."""
    return (label_B[:, None] == torch.arange(classes, device=label_B.device)).float()


def label_loss(logits_BK: Tensor, label_B: Tensor, smoothing: float) -> Tensor:
    """Return the sum of cross-entropies with smoothed labels; rows with label −1 add nothing."""
    return F.cross_entropy(logits_BK, label_B, ignore_index=-1, label_smoothing=smoothing, reduction="sum")


def share_loss(logits_BK: Tensor, share_BK: Tensor, smoothing: float) -> Tensor:
    """Return the sum of cross-entropies with shares; a row's weight is the sum of its shares, and `smoothing` is spread
    over all classes.
    """
    even_BK = share_BK.mean(1, keepdim=True).expand_as(share_BK)
    return F.cross_entropy(logits_BK, share_BK.lerp(even_BK, smoothing), reduction="sum")


def _in_nhwc_memory(clips_BTCHW: Tensor) -> Tensor:
    """Return the clips in NHWC memory, as the loader gives them; torchvision's mixup does not keep it."""
    frames_NCHW = clips_BTCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return frames_NCHW.unflatten(0, clips_BTCHW.shape[:2])
