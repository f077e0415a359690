"""Every setting of a run: its name, type, default and the values it may take.

A section is a frozen dataclass; a default is written here and nowhere else; a setting without one (MISSING) must be in
the recipe. Checks that need one section live in that section, checks across sections in `Config`. A check reports
through `problems` (never raises), so that a person sees every mistake of a recipe at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal

from omegaconf import MISSING

from configs.checks import Problem, at_least, finite, fractions

ListFormat = Literal[
    "auto", "path_label", "path_frames_label", "table", "jsonl", "folders", "kinetics", "kinetics_json",
    "ucf101", "hmdb51", "something_v1", "something_v2", "jester",
]  # fmt: skip


@dataclass(frozen=True)
class Model:
    """The network."""

    name: Literal["tsm", "tsn"] = "tsm"
    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2"] = "resnet50"
    width: int = 64
    """Channels of the ResNet's stem; 64 is the published network, less makes a slim one for demos and tests."""
    num_classes: int = MISSING
    frames: int = 8
    """T: frames per clip, in training and (unless the eval section says otherwise) in evaluation."""
    shift_div: int = 8
    """Of every shifted input, 1/shift_div of the channels takes the next frame and as many the previous one."""
    shift_every: int = 0
    """Shift in every nth block of a stage; 0: as MIT, in each, and every second one where a stage has 23 or more."""
    causal: bool = False
    """Take channels of the previous frame only, so that streams can be classified as they come (name: tsm)."""
    non_local: bool = False
    """Add MIT's five non-local blocks, through which all places of all frames see each other (resnet50, resnet101)."""
    dropout: float = 0.5
    consensus: Literal["logits", "features"] = "logits"
    """Average over frames after the classifier (TSM, MIT's TSN) or before its dropout (PaddleVideo's TSN)."""
    fc_std: float = 0.001
    """Standard deviation of the classifier's initial weights."""
    pretrained: str = "imagenet"
    """`imagenet` or `imagenet_v2` (torchvision's weights of either recipe), `none`, or a file: see docs/weights.md."""
    shift: Literal["auto", "reference", "where", "folded"] = "auto"
    """How the shift is done: `auto` is what was measured to be fast; `folded` is inside the convolution after it."""

    @property
    def any_frames(self) -> bool:
        """Whether it takes clips of any number of frames; otherwise of `frames` only."""
        return self.name == "tsn" or self.causal

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, width=8, num_classes=2, frames=1, shift_div=2, shift_every=0, fc_std=0)
        yield from fractions(self, "dropout")
        if self.causal and self.name != "tsm":
            yield "causal", f"a {self.name} looks at single frames, so it has no direction; set model.name=tsm"
        if self.backbone == "mobilenet_v2" and self.shift_every:
            yield "shift_every", "only ResNets have stages to count blocks in; leave it at 0 for mobilenet_v2"
        if self.non_local and self.backbone not in ("resnet50", "resnet101"):
            yield "non_local", f"a {self.backbone} lacks the blocks that they follow; take resnet50 or resnet101"
        elif self.non_local and self.causal:
            yield "non_local", "lets frames see those after them, which model.causal=true rules out; set one to false"
        if self.backbone == "mobilenet_v2" and self.width != 64:
            yield "width", "only ResNets can be made slim; leave it at 64 for mobilenet_v2"
        elif self.pretrained in ("imagenet", "imagenet_v2") and self.width != 64:
            yield "pretrained", f"ImageNet weights do not fit model.width={self.width}; take `none`, or a width of 64"


@dataclass(frozen=True)
class Data:
    """Where the videos are and how they are decoded."""

    source: Literal["video", "synthetic"] = "video"
    """`synthetic` feeds resident random tensors through the same loader contract: is it the loader?"""
    root: str = ""
    """Folder that the paths in the lists start from; empty: the folder of the list itself."""
    train: str = ""
    """A list (`path label` a line), a published annotation or a folder with one sub-folder a class; `:train` behind
    its name means one of several splits that it holds."""
    val: str = ""
    test: str = ""
    """What eval.py reads; empty: the same as val."""
    format: ListFormat = "auto"
    """What the lists are; `auto` recognises them by their content."""
    prefix: str = ""
    """Put before every path of the lists, as a folder."""
    suffix: str = ""
    """Put behind every path of the lists, such as `.mp4`."""
    class_names: str = ""
    """A text file with one class name a line, by label: for reports, and to number the classes of lists that name them
    (empty: by the alphabet over data.train)."""
    cache: str = ""
    """Folder for the scanned catalogues; empty: beside each list."""
    check: Literal["demux", "ends", "full"] = "demux"
    """How thoroughly the scan looks: packets only; the first and last group decoded too; every frame decoded."""
    decoder: Literal["auto", "nvdec", "dali_cpu", "pyav", "jpeg", "hybrid"] = "auto"
    """`auto` takes nvdec where there is a GPU and all videos are for it, else pyav, and says why (docs/data.md). `jpeg`
    reads folders of frames: a list has `folder frames label` a line, or `folder label`. `hybrid` decodes some batches
    with pyav and the others with nvdec, where that alone cannot keep up."""
    cpu_share: float | Literal["auto"] = "auto"
    """Part of the batches that the CPU decodes (decoder: hybrid); `auto` measures it, so that two runs may differ in
    which, and so by what the two decoders differ."""
    frame_pattern: str = "img_{:05}.jpg"
    """The name of a frame's picture by its number, counted from 1 (decoder: jpeg)."""
    max_bad_fraction: float = 0.01
    """Training and scanning stop when more than this fraction of the videos cannot be read."""

    def problems(self) -> Iterator[Problem]:
        yield from fractions(self, "max_bad_fraction", *(["cpu_share"] if self.cpu_share != "auto" else []))
        if not re.fullmatch(r"[^/{}]*\{(:0\d+d?)?\}[^/{}]*", self.frame_pattern):
            yield (
                "frame_pattern",
                f"{self.frame_pattern!r} does not name a picture by its number, as img_{{:05}}.jpg does",
            )
        if self.source == "video" and not self.train:
            yield "train", "required: a list file or a folder with one sub-folder a class (or data.source=synthetic)"


@dataclass(frozen=True)
class Clip:
    """How a training clip is taken from a video."""

    sampling: Literal["uniform", "dense"] = "uniform"
    snap: int = 0
    """Frames by which a training draw may move towards the keyframe before it, within its segment: fewer to decode, but
    draws that are no longer even (sampling: uniform)."""
    size: int = 224
    """Height and width of the network's input, in pixels."""
    train_crop: Literal["multiscale", "random", "center"] = "multiscale"
    crop_positions: Literal[5, 13] = 13
    short_side: int = 0
    """Scale videos to this short side before the training crop; 0: crop at stored size, as TSM does."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    flip_pairs: tuple[int, ...] = ()
    """Labels that a flip exchanges, such as `pull to the left` and `pull to the right`: [86, 87, 93, 94] are two
    pairs."""
    antialias: bool = True
    """Resize as Pillow (TSM); false: as OpenCV (PaddleVideo's TSN), neither antialiased nor rounded the same."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, snap=0, size=16, short_side=0, flip_pairs=0)
        yield from fractions(self, "flip")
        if self.snap and self.sampling != "uniform":
            yield "snap", "dense sampling draws one place for all frames, and has no segments; leave it at 0"
        if min(self.std) <= 0:
            yield "std", f"{list(self.std)} has a value that is not positive"
        if self.short_side and self.train_crop != "multiscale" and self.size > self.short_side:
            yield "short_side", f"a crop of {self.size} px does not fit in {self.short_side} px"
        if len(self.flip_pairs) % 2 or len(set(self.flip_pairs)) < len(self.flip_pairs):
            yield "flip_pairs", f"{list(self.flip_pairs)} is not made of pairs; write each label once, pair after pair"


@dataclass(frozen=True)
class Eval:
    """Which views of a video are scored, and how their scores become one."""

    crops: Literal["center", "three", "ten"] = "center"
    clips: int = 1
    sampling: Literal["uniform", "dense"] = "uniform"
    frames: int = 0
    """Frames per clip; 0: ten_crop_frames where it applies, else model.frames."""
    ten_crop_frames: int = 0
    """Frames per clip where crops is ten and frames is 0; 0: model.frames. The published tests of TSN take 25."""
    short_side: int = 256
    size: int | Literal["full"] = 0
    """Side of the evaluation crop; 0: clip.size; `full`: short_side, as full-resolution protocols take it."""
    average: Literal["logits", "probs"] = "logits"
    batch: int = 0
    """Videos over all ranks in one batch; 0: as many as keep the frames of a training batch, fewer large ones."""

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, clips=1, frames=0, ten_crop_frames=0, short_side=16, size=0, batch=0)


@dataclass(frozen=True)
class Optim:
    """SGD, its schedule, and which parameters decay."""

    lr: float = MISSING
    """Base learning rate, for a global batch of lr_for_batch."""
    lr_for_batch: int = 0
    """The rate in use is lr * train.batch / lr_for_batch; 0: lr as it is, whatever the batch."""
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay: Literal["weights", "all", "classifier"] = "weights"
    """What weight_decay is for: convolution and linear weights (TSM); norms and biases too (PaddleVideo's TSN); the
    classifier's weight alone (PaddleVideo's TSM on UCF101)."""
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = ()
    """Epochs after which the rate is multiplied by gamma (schedule: step)."""
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    warmup_start: float = 0.1
    """First learning rate of the warm-up, as a fraction of lr."""
    clip_norm: float = 0.0
    """Largest global gradient norm; 0: no clipping."""
    fc_lr_mult: tuple[float, float] = (1.0, 1.0)
    """Multipliers of lr for the classifier's weight and bias; all other biases take bias_lr_mult."""
    bias_lr_mult: float = 1.0
    label_smoothing: float = 0.0
    impl: Literal["torch", "apex"] = "torch"
    """`apex`: NVIDIA's fused SGD, where that is built; the same update."""

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
    """The run: how long, how large, where it is written."""

    name: str = MISSING
    """Name of the run; its folder is `runs/name`."""
    runs: str = "runs"
    epochs: int = MISSING
    batch: int = MISSING
    """Clips per optimizer step over all ranks."""
    accumulate: int = 1
    """Parts that a rank's clips pass the network in, one after the other, for less memory: the same gradient, except
    that batch norms see a part at a time."""
    mixup: float = 0.0
    """Alpha of the Beta distribution that says in which proportion clips are mixed; 0: they are not."""
    cutmix: float = 0.0
    """The same for boxes that clips exchange; where both are set, one of the two is chosen for each batch."""
    ema: float = 0.0
    """Decay of the running average of the weights, which is then what is evaluated and kept as the best; 0: none."""
    partial_bn: bool = False
    """Keep the statistics, weight and bias of all batch norms but the first as they are, as MIT does on UCF101."""
    seed: int = 0
    log_every: int = 20
    """Steps between two log lines: the only places where training reads numbers from the device."""
    eval_every: int = 1
    """Epochs between two evaluations; 0: only at the end."""
    checkpoint_every: int = 1
    """Epochs between two checkpoints."""
    keep: int = 2
    """How many of the newest checkpoints are kept, beside the best."""

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, epochs=1, batch=1, seed=0, log_every=1, eval_every=0, checkpoint_every=1, keep=2)
        yield from at_least(self, accumulate=1, mixup=0, cutmix=0)
        if not 0 <= self.ema < 1:
            yield "ema", f"{self.ema:g} is not at least 0 and below 1"
        if self.name in ("", ".", "..") or "/" in str(self.name):
            yield "name", f"{self.name!r} cannot name a folder; write a word, and set train.runs to move it elsewhere"


@dataclass(frozen=True)
class Runtime:
    """What the run computes on. Nothing here may change a result beyond rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp16", "bf16", "fp32"] = "auto"
    """`auto`: fp16 on a GPU, bf16 on a CPU with instructions for it, else fp32."""
    channels_last: bool = True
    batchnorm: Literal["torch", "apex"] = "torch"
    """`apex`: NVIDIA's, fused with the ReLUs and additions behind them, where that is built; fp16 without compile."""
    compile: Literal["auto", "on", "off"] = "auto"
    threads: int | Literal["auto"] = "auto"
    """Threads that cut and decode, per rank; `auto`: this rank's share of the cores."""
    prefetch: int = 3
    """Batches in preparation ahead of the one in use."""

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, threads=1, prefetch=1)


@dataclass(frozen=True)
class Config:
    """One run, completely."""

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    clip: Clip = field(default_factory=Clip)
    eval: Eval = field(default_factory=Eval)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    runtime: Runtime = field(default_factory=Runtime)

    @property
    def eval_size(self) -> int:
        """Side of the evaluation crop, in pixels."""
        return self.eval.short_side if self.eval.size == "full" else self.eval.size or self.clip.size

    @property
    def eval_frames(self) -> int:
        """Frames per clip in evaluation."""
        of_ten_crops = self.eval.ten_crop_frames if self.eval.crops == "ten" else 0
        return self.eval.frames or of_ten_crops or self.model.frames

    def problems(self) -> Iterator[Problem]:
        """Every mistake in the values, within sections and across them."""
        for section in fields(self):
            values = getattr(self, section.name)
            for name, problem in (*finite(values), *values.problems()):
                yield f"{section.name}.{name}", problem
        smallest = min(self.clip.size, self.eval_size)
        if self.model.non_local and smallest < 32:
            yield "clip.size", f"{smallest} px leave the non-local blocks nothing to pool; they need at least 32"
        if self.eval_size > self.eval.short_side:
            yield (
                "eval.short_side",
                f"a crop of {self.eval_size} px does not fit in a short side of {self.eval.short_side} px; "
                f"raise eval.short_side to at least {self.eval_size}",
            )
        if self.clip.snap and self.data.decoder == "jpeg":
            yield "clip.snap", "pictures in folders cost the same, one as the other; leave it at 0"
        yield from self._flipping_problems()
        yield from self._norm_problems()
        for name in ("frames", "ten_crop_frames"):
            if not self.model.any_frames and getattr(self.eval, name) not in (0, self.model.frames):
                remedy = f"a TSM shifts over clips of model.frames={self.model.frames}; leave eval.{name} at 0"
                yield f"eval.{name}", remedy

    def _norm_problems(self) -> Iterator[Problem]:
        if self.train.partial_bn and self.model.non_local:
            yield "train.partial_bn", "would keep new non-local blocks at zero, where they start; set it to false"
        if self.train.partial_bn and self.runtime.batchnorm == "apex":
            yield "train.partial_bn", "apex's batch norms cannot be kept as they are; set runtime.batchnorm=torch"

    def _flipping_problems(self) -> Iterator[Problem]:
        pairs = self.clip.flip_pairs
        if pairs and max(pairs) >= self.model.num_classes:
            yield "clip.flip_pairs", f"{max(pairs)} is no label of model.num_classes={self.model.num_classes}"
        if pairs and self.eval.crops == "ten":
            yield "eval.crops", "five of the ten are mirrored, which clip.flip_pairs says changes labels; take three"
