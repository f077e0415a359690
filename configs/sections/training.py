"""Settings of a training run: optimizer and schedule, length and folder, device and precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omegaconf import MISSING

from configs.checks import Problem, check_fractions, check_minimums

LONGEST = 1e9  # seconds; clocks of libraries overflow at some larger number


@dataclass(frozen=True)
class Optim:
    """SGD, its schedule, and weight decay."""

    lr: float = MISSING
    """Base learning rate, for a global batch of lr_for_batch; 0: chosen by the initial weights, for lr_for_batch=64."""
    lr_for_batch: int = 0
    """The learning rate is lr * train.batch / lr_for_batch; 0: lr, independent of the batch."""
    momentum: float = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """Use Nesterov's momentum."""
    weight_decay: float = 1e-4
    """Weight decay (L2 penalty) of the parameters that optim.decay selects."""
    decay: Literal["weights", "all", "classifier"] = "weights"
    """Parameters with weight decay: `weights` of convolutions and linear layers (TSM); `all`, also norms and biases
    (PaddleVideo's TSN); only the `classifier`'s weight (PaddleVideo's TSM on UCF101).
    """
    schedule: Literal["step", "cosine"] = "step"
    """`step` multiplies the rate by gamma after each milestone; `cosine` lowers it at every step, down to zero."""
    milestones: tuple[int, ...] = ()
    """Epochs after which the rate is multiplied by gamma (schedule: step)."""
    gamma: float = 0.1
    """Factor of the rate at a milestone (schedule: step)."""
    warmup_epochs: float = 0.0
    """Epochs during which the rate rises linearly from warmup_start to the rate of the schedule at their end."""
    warmup_start: float = 0.1
    """First learning rate of the warm-up, as a fraction of lr."""
    clip_norm: float = 0.0
    """Maximum global gradient norm; 0: no clipping."""
    fc_lr_mult: tuple[float, float] = (1.0, 1.0)
    """Factors of lr for the classifier's weight and bias."""
    bias_lr_mult: float = 1.0
    """Factor of lr for the biases of convolutions, which only non-local blocks have."""
    label_smoothing: float = 0.0
    """Fraction of each label that is spread over all classes."""
    impl: Literal["torch", "apex"] = "torch"
    """`apex`: NVIDIA's fused SGD, if installed; the same update."""

    def problems(self) -> Iterator[Problem]:
        yield from check_minimums(self, lr=0, weight_decay=0, milestones=1, gamma=0, warmup_epochs=0, clip_norm=0)
        yield from check_minimums(self, fc_lr_mult=0, bias_lr_mult=0, lr_for_batch=0)
        yield from check_fractions(self, "warmup_start", "label_smoothing")
        yield from check_fractions(self, "momentum", below_one=True)
        if list(self.milestones) != sorted(set(self.milestones)):
            yield "milestones", f"{list(self.milestones)} is not ascending; write each epoch once, in order"
        if self.schedule == "cosine" and self.milestones:
            yield "milestones", "a cosine schedule has none; write [] or set optim.schedule=step"
        if self.nesterov and not self.momentum:
            yield "nesterov", "needs optim.momentum above 0"


@dataclass(frozen=True)
class Train:
    """Length, batch size, regularisation and folder of a run."""

    name: str = MISSING
    """Name of the run, whose folder is `runs/name`. `auto`: the name of data.train."""
    runs: str = "runs"
    """Parent folder of the run folders."""
    epochs: int = MISSING
    """Number of epochs; 0: chosen by the number of videos."""
    batch: int = MISSING
    """Clips per optimizer step over all ranks; 0: chosen by the number of videos."""
    accumulate: int = 1
    """Gradient accumulation: forward and backward passes per step, to save memory. The gradient is the same, except
    that batch norms see one part of the batch at a time.
    """
    mixup: float = 0.0
    """Alpha of mixup's Beta distribution; 0: no mixup."""
    cutmix: float = 0.0
    """Alpha of CutMix; 0: no CutMix. If both are set, one of the two is chosen for each batch."""
    ema: float = 0.0
    """Decay of the exponential moving average of the weights, which is evaluated and saved as the best; 0: none."""
    sync_bn: bool = False
    """Synchronise batch-norm statistics over all ranks, for few clips per rank."""
    precise_bn: int = 0
    """Batches per rank, at most an epoch, from which batch-norm statistics are recomputed before an evaluation, every
    precise_bn_every epochs and at the end; 0: evaluate with the running averages.
    """
    precise_bn_every: int = 5
    """Epochs between recomputations for precise_bn."""
    partial_bn: bool = False
    """Freeze statistics, weights and biases of all batch norms except the first, as MIT does on UCF101."""
    freeze: Literal["none", "stem", "layer1", "layer2", "layer3", "layer4"] = "none"
    """Freeze weights and statistics of a ResNet up to this part; layer4: only the classifier is trained."""
    seed: int = 0
    """Seed of all randomness: order, views, augmentation, initial weights, dropout, division by data.val=auto."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Send curves and pictures to these, in addition to metrics.jsonl: tensorboard, wandb, mlflow."""
    log_every: int = 20
    """Steps between log lines; training reads numbers from the device only there."""
    eval_every: int = 1
    """Epochs between evaluations; 0: only at the end."""
    best: Literal["top1", "mean_class"] = "top1"
    """Accuracy that selects best.pt: top-1 over all videos, or the mean of the classes' accuracies."""
    patience: int = 0
    """Early stopping: end the run after this many evaluations in a row without a new best; 0: train to the last
    epoch.
    """
    checkpoint_every: int = 1
    """Epochs between checkpoints."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints within an epoch, written after a log line, while training continues; 0: only at the
    ends of epochs.
    """
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """If a loss or gradient is NaN or infinite: end the run, or skip the step and continue. Steps with an overflow of
    fp16 gradients are always skipped, and the loss scale is lowered.
    """
    max_nonfinite: int = 10
    """Maximum number of steps that a run may skip (on_nonfinite: skip)."""
    keep: int = 2
    """Number of checkpoints to keep, at least 2, in addition to best.pt and last.pt."""

    @property
    def folder(self) -> Path:
        """Return the run's folder."""
        return Path(self.runs, self.name)

    def problems(self) -> Iterator[Problem]:
        yield from check_minimums(
            self, epochs=0, batch=0, seed=0, log_every=1, eval_every=0, checkpoint_every=1, keep=2
        )
        yield from check_minimums(self, max_nonfinite=0, patience=0)
        yield from check_minimums(
            self, accumulate=1, mixup=0, cutmix=0, precise_bn=0, precise_bn_every=1, checkpoint_minutes=0
        )
        if unknown := set(self.trackers) - {"tensorboard", "wandb", "mlflow"}:
            yield "trackers", f"{', '.join(sorted(unknown))}: expected tensorboard, wandb or mlflow"
        if self.sync_bn and self.partial_bn:
            yield "sync_bn", "train.partial_bn freezes the statistics that it would synchronize; set one to false"
        yield from check_fractions(self, "ema", below_one=True)
        if len(set(self.trackers)) < len(self.trackers):
            yield "trackers", f"{list(self.trackers)} names one twice; write each once"
        if self.seed >= 2**64:
            yield "seed", f"{self.seed} is too large; the largest allowed is 2^64 - 1"
        if self.name in ("", ".", "..") or "/" in str(self.name) or not str(self.name).isprintable():
            yield "name", f"{self.name!r} cannot name a folder; write a word, and set train.runs to move it elsewhere"


@dataclass(frozen=True)
class Runtime:
    """Hardware, precision and threads. These settings change results only by rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: the GPU if there is one, otherwise the CPU."""
    precision: Literal["auto", "fp16", "bf16", "fp32"] = "auto"
    """`auto`: fp16 on a GPU, bf16 on a CPU with bf16 instructions, otherwise fp32."""
    channels_last: bool = True
    """Store activations and weights in NHWC memory, which is faster on tensor cores and CPUs."""
    batchnorm: Literal["torch", "apex"] = "torch"
    """`apex`: NVIDIA's batch norms, fused with the following ReLUs and additions, if installed; for fp16 without
    compile.
    """
    recompute: bool = False
    """Activation checkpointing: recompute the activations of residual blocks in the backward pass instead of storing
    them. Much less memory, about a third more computation, the same results.
    """
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the network with torch.compile; `auto`: if measurements show that it is faster."""
    onnx_provider: Literal["cuda", "tensorrt"] = "cuda"
    """onnxruntime's provider for ONNX files on a GPU, see docs/deploy.md."""
    cuda_graph: bool = False
    """Record the kernels of a step as a CUDA graph, for few clips on one GPU. Not yet measured."""
    threads: int | Literal["auto"] = "auto"
    """Threads per rank for cutting and decoding, and on a CPU also for computing, there at most this rank's share of
    the cores; `auto`: that share.
    """
    prefetch: int = 3
    """Batches to prepare in advance."""
    timeout: float = 300.0
    """Seconds that a rank may spend without progress; then the run ends, and the error names the rank, its step and its
    file. Compiling, scanning and the first step may take ten times as long.
    """

    def problems(self) -> Iterator[Problem]:
        yield from check_minimums(self, threads=1, prefetch=1, timeout=1)
        if self.timeout > LONGEST:
            yield "timeout", f"{self.timeout:g} is too large; the largest allowed is {LONGEST:g}, about 30 years"
        if self.recompute and self.compile == "on":
            yield "recompute", "a compiled network chooses itself what to recompute; set runtime.compile=off"
