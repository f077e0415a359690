"""Settings of the data: videos and lists, training clips, and the views used in evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from configs.checks import Problem, at_least, fractions

SCHEMES = ("s3", "gs", "az", "http", "https")
Check = Literal["index", "demux", "ends", "full"]  # the least thorough first
ListFormat = Literal[
    "auto", "path_label", "path_frames_label", "table", "jsonl", "json", "folders", "kinetics", "kinetics_json",
    "ucf101", "hmdb51", "something_v1", "something_v2", "jester", "webdataset",
]  # fmt: skip


@dataclass(frozen=True)
class Data:
    """The videos and their decoding."""

    source: Literal["video", "synthetic"] = "video"
    """`synthetic` feeds resident random tensors through the same loader contract: is it the loader?"""
    root: str = ""
    """Folder that paths in the lists are relative to; empty: the folder of the list. s3://, gs://, az:// and http(s)://
    are read by ranges of bytes (docs/storage.md)."""
    cache_dir: str = ""
    """Folder on a local disk for videos of a store: each is kept whole from its first use on; empty: none is kept."""
    cache_gb: float = 100.0
    """Size of data.cache_dir, in 10^9 bytes; the ranks of a host share it."""
    follow_links: bool = True
    """Follow links that lead out of `root`. `false` refuses them, which protects from lists of strangers."""
    train: str = ""
    """A list (`path label` per line), a published annotation, or a folder with a sub-folder for each class; a suffix
    `:train` selects one of several splits in a file. A list may be in a store, too."""
    val: str = ""
    """A list, as data.train; `auto` holds out a part of data.train, the same in every run (train.py only)."""
    held_out: float = 0.2
    """Part of the videos of each class that data.val=auto holds out."""
    group: str = ""
    """Column of the table data.train: videos with equal values stay on one side of data.val=auto."""
    group_regex: str = ""
    """Videos in whose path this regular expression finds the same stay on one side of data.val=auto, such as
    `seq\\d+`; empty: recordings that the format of the list knows."""
    test: str = ""
    """The list for eval.py; empty: the same as val."""
    format: ListFormat = "auto"
    """Format of the lists; `auto` detects it from their content."""
    prefix: str = ""
    """Folder to prepend to every path of the lists."""
    suffix: str = ""
    """Text to append to every path of the lists, such as `.mp4`."""
    class_names: str = ""
    """A file with one class name per line, by label, or JSON: an array of names, or an object of names and numbers. It
    numbers the classes of lists that name them; empty: they are numbered in alphabetical order over data.train."""
    cache: str = ""
    """Folder for the scanned catalogues; empty: beside each list, for lists in a store in the cache of the user."""
    check: Check = "demux"
    """Thoroughness of the scan: `demux` reads packets only, `ends` also decodes the first and the last group of
    pictures, `full` decodes every frame. `index`, which finds no damage, reads the index of mp4 and mov files only."""
    decoder: Literal["auto", "nvdec", "dali_cpu", "pyav", "jpeg", "hybrid"] = "auto"
    """`auto`: NVDEC on a GPU for each video that it decodes right, CPU threads (pyav) for the others (docs/data.md).
    `nvdec`: the same, but an error if NVDEC does not work. `dali_cpu`: DALI's CPU decoder for VP8, VP9 and MJPEG.
    `hybrid`: CPU threads take a part of every batch from NVDEC. `jpeg`: folders of frames; a list has
    `folder frames label` a line, or `folder label`."""
    cpu_share: float | Literal["auto"] = "auto"
    """Part of the videos of every batch that CPU threads decode (decoder: hybrid). `auto` adjusts it while running, so
    that two runs may differ in which videos, and so by what the two decoders differ."""
    frame_pattern: str = "img_{:05}.jpg"
    """File name of a frame by its number, counted from 1 (decoder: jpeg)."""
    balance: Literal["none", "classes"] = "none"
    """`classes`: training takes videos of every class equally often, those of small classes several times an epoch."""
    overlap: Literal["path", "content"] = "path"
    """Videos of the held-out list that are reported as part of the training list: the same files, or also copies."""
    max_bad_fraction: float = 0.01
    """Training and scanning stop when more than this fraction of the videos cannot be read."""

    @property
    def in_store(self) -> bool:
        """True if videos or lists are in a store."""
        return any("://" in str(place) for place in (self.root, self.train, self.val, self.test))

    def problems(self) -> Iterator[Problem]:
        yield from fractions(self, "max_bad_fraction", "cpu_share")
        if not re.fullmatch(r"[^/{}]*\{(:0\d+d?)?\}[^/{}]*", self.frame_pattern):
            yield (
                "frame_pattern",
                f"{self.frame_pattern!r} does not name a picture by its number, as img_{{:05}}.jpg does",
            )
        yield from self._problems_of_urls()
        yield from at_least(self, cache_gb=0)
        if not 0 < self.held_out < 1:
            yield "held_out", f"{self.held_out:g} is not between 0 and 1"
        try:
            re.compile(self.group_regex)
        except re.error as error:
            yield "group_regex", f"{self.group_regex!r} is no regular expression ({error})"
        if self.source == "video" and not self.train:
            yield "train", "required: a list file or a folder with one sub-folder a class (or data.source=synthetic)"

    def _problems_of_urls(self) -> Iterator[Problem]:
        """Yield what is wrong with places in stores. The messages do not repeat them: they may hold a secret."""
        for name in ("root", "train", "val", "test"):
            scheme, mark, rest = str(getattr(self, name)).partition("://")
            if mark and scheme not in SCHEMES:
                yield name, f"cannot be read; a store begins with one of {', '.join(f'{name}://' for name in SCHEMES)}"
            elif mark and ("?" in rest or "@" in rest):
                yield (
                    name,
                    "holds a query or a password, which would be saved with the run; set the environment instead",
                )
        if self.cache_dir and not self.in_store:
            yield "cache_dir", "keeps videos of a store, and neither data.root nor a list is in one"


@dataclass(frozen=True)
class Clip:
    """Sampling and augmentation of training clips, and normalisation of all clips."""

    sampling: Literal["uniform", "dense"] = "uniform"
    """Frames of a clip: one of each of T parts of the video (TSN), or every few of a window of 64 frames."""
    snap: int = 0
    """Frames by which a training draw may move back to a keyframe within its segment: fewer frames to decode, but draws
    that are no longer uniform (sampling: uniform)."""
    size: int = 224
    """Height and width of the network's input, in pixels."""
    train_crop: Literal["multiscale", "resized", "random", "center"] = "multiscale"
    """`multiscale`: TSN's; `resized`: a random area (crop_area) and a ratio from 3/4 to 4/3; `random`, `center`: a
    square of `size`."""
    crop_area: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest share of the picture (train_crop: resized)."""
    crop_positions: Literal[5, 13] = 13
    """Places that multi-scale crops are taken from: corners and centre, or edges and quarters as well."""
    multiscale_size: int = 0
    """Resize multi-scale crops to this side and crop a random square of `size` out of them, as PP-TSM does; 0: resize
    them to `size`."""
    short_side: int = 0
    """Scale videos to this short side before the training crop; 0: crop at stored size, as TSM does."""
    squash: bool = False
    """Scaling to a short side, also in evaluation, makes the long side 4/3 of it, as PaddleVideo's PP-TSM does; videos
    whose short side needs no scaling stay as they are."""
    repeats: int = 1
    """Clips of each video that is read (repeated augmentation): the same frames, decoded once, each clip with its own
    crop, flip and augmentation. train.batch counts clips; an epoch still takes each video once, in `repeats` times as
    many steps."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    flip_pairs: tuple[int, ...] = ()
    """Pairs of labels that a flip exchanges, such as left and right: [86, 87, 93, 94] are two pairs."""
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Largest change of brightness, contrast and saturation, as factors, and of hue (at most 0.5); all frames of a clip
    get the same."""
    randaugment: int = 0
    """Operations of RandAugment on each clip, the same for all frames; 0: none."""
    randaugment_magnitude: int = 9
    """Strength of these operations, from 0 to 30."""
    erase: float = 0.0
    """Probability that a random box of the clip is erased, the same in all frames."""
    antialias: bool = True
    """true: resize as Pillow does (TSM); false: as OpenCV, without antialiasing (PaddleVideo's TSN)."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of red, green and blue that is subtracted, of pictures in [0, 1]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Deviation of red, green and blue that is divided by."""

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, snap=0, size=16, short_side=0, repeats=1, flip_pairs=0, multiscale_size=0)
        yield from at_least(self, color_jitter=0, randaugment=0, randaugment_magnitude=0)
        yield from fractions(self, "flip", "erase")
        if self.color_jitter[3] > 0.5:
            yield "color_jitter", f"a hue of {self.color_jitter[3]:g} is more than half the circle; use at most 0.5"
        if self.multiscale_size and (self.train_crop != "multiscale" or self.multiscale_size < self.size):
            yield "multiscale_size", f"is for train_crop=multiscale, and at least clip.size={self.size}; leave it at 0"
        if self.randaugment_magnitude > 30:
            yield "randaugment_magnitude", f"{self.randaugment_magnitude} is more than 30"
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            yield "crop_area", f"{list(self.crop_area)} are not two rising shares, above 0 and at most 1"
        if self.snap and self.sampling != "uniform":
            yield "snap", "dense sampling draws one place for all frames, and has no segments; leave it at 0"
        if min(self.std) <= 0:
            yield "std", f"{list(self.std)} has a value that is not positive"
        if self.short_side and self.train_crop in ("random", "center") and self.size > self.short_side:
            yield "short_side", f"a crop of {self.size} px does not fit in {self.short_side} px"
        if len(self.flip_pairs) % 2 or len(set(self.flip_pairs)) < len(self.flip_pairs):
            yield "flip_pairs", f"{list(self.flip_pairs)} is not made of pairs; write each label once, pair after pair"


@dataclass(frozen=True)
class Eval:
    """Views of a video in evaluation, and the average of their scores."""

    crops: Literal["center", "three", "ten"] = "center"
    """Crops of a clip: the centre; left, centre and right; or corners and centre with their mirror images."""
    clips: int = 1
    """Clips of a video."""
    sampling: Literal["uniform", "dense"] = "uniform"
    """Frames of a clip, as clip.sampling."""
    frames: int = 0
    """Frames per clip; 0: ten_crop_frames if crops is ten, else model.frames."""
    ten_crop_frames: int = 0
    """Frames per clip if crops is ten and frames is 0; 0: model.frames. TSN's published tests use 25."""
    short_side: int = 256
    """Pixels of the short side before the crop."""
    size: int | Literal["full"] = 0
    """Side of the evaluation crop; 0: clip.size; `full`: short_side, for full-resolution protocols."""
    average: Literal["logits", "probs"] = "logits"
    """Average the views of a video by logits, or by probabilities."""
    batch: int = 0
    """Videos in a batch over all ranks; 0: chosen so that a batch has no more frames than a training batch."""

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, clips=1, frames=0, ten_crop_frames=0, short_side=16, size=0, batch=0)
