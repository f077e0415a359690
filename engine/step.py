"""One optimizer step, and the numbers that it leaves on the device.

Shapes: B clips, T frames, C channels, H W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from dali_pipes import Batch
from engine import distributed, optim
from engine.targets import Loss, Mix


class Tally:
    """Sums that stay on the device until `read`: the only place where training waits for it."""

    NAMES = ("loss", "hits", "clips")

    def __init__(self, device: torch.device):
        self._sums = torch.zeros(len(self.NAMES), dtype=torch.float64, device=device)

    def add(self, loss_sum: Tensor, logits_BK: Tensor, label_B: Tensor) -> None:
        """Count one step. Rows with label −1 are no clips: they match no class."""
        hits = (logits_BK.argmax(1) == label_B).sum()
        self._sums += torch.stack([loss_sum.double(), hits, (label_B >= 0).sum()])

    def read(self) -> Tensor:
        """The sums since the last read, in the order of NAMES, float64 on the host. Waits for the device."""
        sums, self._sums = self._sums, torch.zeros_like(self._sums)
        return sums.cpu()


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    batch: Batch,
    step: int,
    *,
    lr_at: Callable[[int], float],
    mix: Mix,
    loss: Loss,
    parts: int,
    autocast: AbstractContextManager,
    max_norm: float,
    tally: Tally,
) -> Tensor:
    """One optimizer step; returns the gradient's global norm before clipping. Never waits for the device.

    The loss is the sum over readable clips divided by all B rows: a row with label −1 contributes nothing, and the
    others weigh what they always weigh. So a global batch's gradient is the same however the ranks divide it, and in
    however many equal parts a rank takes its share. Mixing is the exception: it finds partners on a rank.
    """
    optim.set_lr(optimizer, lr_at(step))
    batch, target = mix(batch)
    whole = batch.clips_BTCHW, target, batch.label_B
    chunks = zip(*(tensor.chunk(parts) for tensor in whole), strict=True)
    for part, (clips_BTCHW, wanted, label_B) in enumerate(chunks, 1):
        with distributed.averaged(model, part == parts):
            with autocast:
                logits_BK = model(clips_BTCHW).float()
            loss_sum = loss(logits_BK, wanted)
            scaler.scale(loss_sum / len(target)).backward()
        tally.add(loss_sum.detach(), logits_BK.detach(), label_B)
    scaler.unscale_(optimizer)
    grad_norm = clip_grad_norm_(model.parameters(), max_norm)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return grad_norm
