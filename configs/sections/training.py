"""Settings of a training run: optimizer and schedule, length and folder, device and precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omegaconf import MISSING

from configs.checks import Problem, at_least, fractions


@dataclass(frozen=True)
class Optim:
    """SGD, its schedule, and which parameters decay."""

    lr: float = MISSING
    """Base learning rate, for a global batch of lr_for_batch; 0: chosen by the weights that training starts from."""
    lr_for_batch: int = 0
    """The learning rate is lr * train.batch / lr_for_batch; 0: lr, whatever the batch."""
    momentum: float = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """Use Nesterov's momentum."""
    weight_decay: float = 1e-4
    """L2 penalty of the parameters that optim.decay names."""
    decay: Literal["weights", "all", "classifier"] = "weights"
    """Parameters that weight_decay applies to: convolution and linear weights (TSM); also norms and biases
    (PaddleVideo's TSN); only the classifier's weight (PaddleVideo's TSM on UCF101)."""
    schedule: Literal["step", "cosine"] = "step"
    """`step` multiplies the rate by gamma after each milestone; `cosine` lowers it to zero at every step."""
    milestones: tuple[int, ...] = ()
    """Epochs after which the rate is multiplied by gamma (schedule: step)."""
    gamma: float = 0.1
    """Factor of the rate at a milestone (schedule: step)."""
    warmup_epochs: float = 0.0
    """Epochs in which the rate rises linearly from warmup_start."""
    warmup_start: float = 0.1
    """First learning rate of the warm-up, as a fraction of lr."""
    clip_norm: float = 0.0
    """Largest global gradient norm; 0: no clipping."""
    fc_lr_mult: tuple[float, float] = (1.0, 1.0)
    """Multipliers of lr for the classifier's weight and bias; all other biases take bias_lr_mult."""
    bias_lr_mult: float = 1.0
    """Multiplier of lr for all biases but the classifier's."""
    label_smoothing: float = 0.0
    """Part of each label that is spread over all classes."""
    impl: Literal["torch", "apex"] = "torch"
    """`apex`: NVIDIA's fused SGD, if installed; the same update."""

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, lr=0, weight_decay=0, milestones=1, gamma=0, warmup_epochs=0, clip_norm=0)
        yield from at_least(self, fc_lr_mult=0, bias_lr_mult=0, lr_for_batch=0)
        yield from fractions(self, "momentum", "warmup_start", "label_smoothing")
        if list(self.milestones) != sorted(set(self.milestones)):
            yield "milestones", f"{list(self.milestones)} does not rise; write each epoch once, in order"
        if self.schedule == "cosine" and self.milestones:
            yield "milestones", "a cosine schedule has none; write [] or set optim.schedule=step"
        if self.nesterov and not self.momentum:
            yield "nesterov", "needs a momentum above 0"


@dataclass(frozen=True)
class Train:
    """Length, batch, regularisation and folder of a run."""

    name: str = MISSING
    """Name of the run; its folder is `runs/name`. `auto`: named after data.train."""
    runs: str = "runs"
    """Folder of the runs' folders."""
    epochs: int = MISSING
    """0: chosen by the number of videos."""
    batch: int = MISSING
    """Clips per optimizer step over all ranks; 0: chosen by the number of videos."""
    accumulate: int = 1
    """Passes through the network per step, to save memory: the same gradient, except that batch norms see one part of
    the batch at a time."""
    mixup: float = 0.0
    """Alpha of mixup's Beta distribution; 0: no mixup."""
    cutmix: float = 0.0
    """Alpha of CutMix; 0: no CutMix. If both are set, one of the two is chosen for each batch."""
    ema: float = 0.0
    """Decay of the running average of the weights, which is then evaluated and kept as the best; 0: none."""
    sync_bn: bool = False
    """Take the statistics of batch norms over the clips of all ranks, for few clips on each."""
    precise_bn: int = 0
    """Batches per rank from which the statistics of batch norms are computed anew before an evaluation, every
    precise_bn_every epochs and at the end; 0: evaluate with the running averages."""
    precise_bn_every: int = 5
    """Epochs between two computations of precise_bn."""
    partial_bn: bool = False
    """Freeze statistics, weights and biases of all batch norms but the first, as MIT does on UCF101."""
    freeze: Literal["none", "stem", "layer1", "layer2", "layer3", "layer4"] = "none"
    """Last part of a ResNet that keeps its weights and statistics, as do all before it; layer4: only the classifier
    is trained."""
    seed: int = 0
    """Seed of everything random: order, views, augmentation, initial weights, dropout."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Places besides metrics.jsonl that curves and pictures go to: tensorboard, wandb, mlflow."""
    log_every: int = 20
    """Steps between two log lines; only there does training read numbers from the device."""
    eval_every: int = 1
    """Epochs between two evaluations; 0: only at the end."""
    best: Literal["top1", "mean_class"] = "top1"
    """Accuracy by which best.pt is chosen: of all videos, or the mean of the classes'."""
    patience: int = 0
    """Evaluations in a row without a new best, after which the run ends; 0: it trains to the last epoch."""
    checkpoint_every: int = 1
    """Epochs between two checkpoints."""
    checkpoint_minutes: float = 10.0
    """Minutes between two checkpoints within an epoch, written while training continues; 0: only at ends of epochs."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """When a loss or gradient is NaN or infinite: end the run, or leave the step out and go on. fp16 gradients that
    overflow are always left out, and the loss scale is lowered."""
    max_nonfinite: int = 10
    """Steps that a run may leave out (on_nonfinite: skip) before it ends."""
    keep: int = 2
    """Number of checkpoints to keep, besides the best."""

    @property
    def folder(self) -> Path:
        """Return the run's folder."""
        return Path(self.runs, self.name)

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, epochs=0, batch=0, seed=0, log_every=1, eval_every=0, checkpoint_every=1, keep=2)
        yield from at_least(self, max_nonfinite=0, patience=0)
        yield from at_least(
            self, accumulate=1, mixup=0, cutmix=0, precise_bn=0, precise_bn_every=1, checkpoint_minutes=0
        )
        if unknown := set(self.trackers) - {"tensorboard", "wandb", "mlflow"}:
            yield "trackers", f"{', '.join(sorted(unknown))}: expected tensorboard, wandb or mlflow"
        if self.sync_bn and self.partial_bn:
            yield "sync_bn", "train.partial_bn freezes the statistics that it would synchronize; set one to false"
        if not 0 <= self.ema < 1:
            yield "ema", f"{self.ema:g} is not at least 0 and below 1"
        if self.name in ("", ".", "..") or "/" in str(self.name):
            yield "name", f"{self.name!r} cannot name a folder; write a word, and set train.runs to move it elsewhere"


@dataclass(frozen=True)
class Runtime:
    """Hardware, precision and threads. Nothing here changes a result beyond rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: the GPU if there is one."""
    precision: Literal["auto", "fp16", "bf16", "fp32"] = "auto"
    """`auto`: fp16 on a GPU, bf16 on a CPU with bf16 instructions, else fp32."""
    channels_last: bool = True
    """Keep activations and weights in NHWC memory, which tensor cores and CPUs compute faster with."""
    batchnorm: Literal["torch", "apex"] = "torch"
    """`apex`: NVIDIA's, fused with the ReLUs and additions after them, if installed; fp16 without compile."""
    recompute: bool = False
    """Compute the activations of residual blocks again in the backward pass instead of keeping them (activation
    checkpointing): much less memory, about a third more computation, the same results."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the network with torch.compile; `auto`: where that was measured to be faster."""
    onnx_provider: Literal["cuda", "tensorrt"] = "cuda"
    """onnxruntime's provider for ONNX files on a GPU, see docs/deploy.md."""
    cuda_graph: bool = False
    """Record the kernels of a step once and launch them together, for few clips on one GPU. Not yet measured."""
    threads: int | Literal["auto"] = "auto"
    """Threads per rank that cut and decode; `auto`: this rank's share of the cores."""
    prefetch: int = 3
    """Batches to prepare in advance."""
    timeout: float = 300.0
    """Seconds that a rank may spend without any progress; then the rank, its step and its file are named, and the run
    ends. Compiling, scanning and the first step may take ten times as long."""

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, threads=1, prefetch=1, timeout=1)
        if self.recompute and self.compile == "on":
            yield "recompute", "a compiled network decides itself what it keeps; set runtime.compile=off"
