"""Settings of the data: videos and lists, training clips, and the views used in evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from configs.checks import Problem, at_least, fractions

Check = Literal["demux", "ends", "full"]  # the least thorough first
ListFormat = Literal[
    "auto", "path_label", "path_frames_label", "table", "jsonl", "folders", "kinetics", "kinetics_json",
    "ucf101", "hmdb51", "something_v1", "something_v2", "jester",
]  # fmt: skip


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
    check: Check = "demux"
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
