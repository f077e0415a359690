"""A training step of TSM ResNet-50, by the project and by other implementations: forward, backward, clipping, SGD."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

import configs
from benchmarks.alternatives.networks import MitTsm, MmactionTsm
from configs import Config
from dali_pipes import Batch
from engine import runtime
from engine.train import optim, training
from engine.train.step import Tally

CLOSE = 1e-4  # relative to the largest logit: other orders of summation, in fp32
NETWORKS = {"MIT": MitTsm, "mmaction2": MmactionTsm}

Step = Callable[[], None]


def recipe(batch: int, size: int) -> Config:
    """Return the recipe of all implementations, with clips that stay in memory."""
    settings = [f"train.batch={batch}", f"clip.size={size}", f"eval.short_side={size}", "model.pretrained=none"]
    return configs.load("tsm_k400_nhwc", [*settings, "data.source=synthetic", "runtime.precision=auto"])


class Ours:
    """The project's own training step."""

    def __init__(self, config: Config):
        self.training = training.build(config)
        self.batch = next(iter(self.training.train_loader.epoch(0)))
        self.tally = Tally(self.training.device)

    def step(self) -> None:
        self.training.take_step(self.batch, self.tally)


class Peer:
    """A plain training loop of another network with our weights. `tuned`: channels_last, autocast, fused SGD."""

    def __init__(self, build: Callable[..., nn.Module], ours: Ours, tuned: bool):
        self.device = ours.training.device
        self.network = build(ours.training.model).to(self.device).train()
        self.batch: Batch = ours.batch
        self.half = runtime.HALF.get(ours.training.config.runtime.precision) if tuned else None
        if tuned:
            self.network = self.network.to(memory_format=torch.channels_last)
        else:
            clips_BTCHW = self.batch.clips_BTCHW.float().contiguous()
            self.batch = replace(self.batch, clips_BVTCHW=clips_BTCHW[:, None])
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half == torch.float16)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=tuned or None
        )
        optim.lay_out_momenta(self.optimizer)

    def step(self) -> None:
        half = torch.autocast(self.device.type, self.half) if self.half else nullcontext()
        with half:
            loss = F.cross_entropy(self.network(self.batch.clips_BTCHW).float(), self.batch.label_B)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), 20)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    @runtime.exact_fp32()
    @torch.no_grad()
    def distance(self, ours: Ours) -> float:
        """Return the largest difference of the logits relative to the largest logit; fp32, evaluation mode."""
        model = ours.training.model.eval()
        mine = self.network.eval()
        clips_BTCHW = ours.batch.clips_BTCHW[:1].float()
        logits_BK = model(clips_BTCHW)
        difference = (mine(clips_BTCHW) - logits_BK).abs().max() / logits_BK.abs().max()
        model.train()
        mine.train()
        return difference.item()


def timed(step: Step, steps: int, clips: int, device: torch.device) -> float:
    """Return the clips per second of `steps` steps."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    began = now()
    for _ in range(steps):
        step()
    return steps * clips / (now() - began)
