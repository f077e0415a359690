"""Settings of the data: videos and lists, training clips, and the views used in evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from configs.checks import SMALLEST, Problem, check_fractions, check_minimums, check_sides

SCHEMES = ("s3", "gs", "az", "http", "https")
Check = Literal["index", "demux", "ends", "full"]  # from the least to the most thorough
ListFormat = Literal[
    "auto", "path_label", "path_frames_label", "table", "jsonl", "json", "folders", "kinetics", "kinetics_json",
    "ucf101", "hmdb51", "something_v1", "something_v2", "jester", "webdataset",
]  # fmt: skip


@dataclass(frozen=True)
class Data:
    """The videos and their decoding."""

    source: Literal["video", "synthetic"] = "video"
    """`synthetic` feeds one random batch through the same interface, to test if the loader is the bottleneck."""
    root: str = ""
    """Folder to which paths in the lists are relative; empty: the folder of the list. s3://, gs://, az:// and
    http(s):// are read by byte ranges (docs/storage.md).
    """
    cache_dir: str = ""
    """Folder on a local disk that caches videos of a store, each completely at its first use; empty: no cache."""
    cache_gb: float = 100.0
    """Maximum size of data.cache_dir, in 10^9 bytes; the ranks of a host share it."""
    follow_links: bool = True
    """Follow links that lead out of `root`. `false` refuses them, and without a `root` absolute paths out of the folder
    of the list, as a protection against untrusted lists.
    """
    train: str = ""
    """A list (`path label` per line), a published annotation, or a folder with one sub-folder per class; the suffix
    `:train` selects one of several splits in a file. A list may be in a store, too.
    """
    val: str = ""
    """A list, like data.train; `auto` holds out a part of data.train, the same in every run (train.py only)."""
    held_out: float = 0.2
    """Fraction of the videos of each class that data.val=auto holds out."""
    group: str = ""
    """Column of the table data.train: videos with equal values stay on the same side of data.val=auto."""
    group_regex: str = ""
    """Regular expression such as `seq\\d+`: videos with the same match in their path stay on the same side of
    data.val=auto; empty: clips of the same recording do, if the format of the list shows it.
    """
    test: str = ""
    """The list for eval.py; empty: the same as val."""
    format: ListFormat = "auto"
    """Format of the lists; `auto` detects it from their content."""
    prefix: str = ""
    """Folder to prepend to every relative path of the lists."""
    suffix: str = ""
    """Text to append to every path of the lists, such as `.mp4`."""
    class_names: str = ""
    """A file with one class name per line, in the order of labels, or JSON: an array of names, or an object of names
    and numbers. It defines the labels of lists with class names; empty: classes of data.train in alphabetical order.
    """
    cache: str = ""
    """Folder for the catalogues of scans; empty: next to each list, or in the user's cache folder for lists in a store
    or in a folder that cannot be written to.
    """
    check: Check = "demux"
    """Thoroughness of the scan: `demux` only reads packets, `ends` also decodes the first and the last group of
    pictures, `full` decodes every frame. `index` only reads the index of mp4 and mov files and finds no damage.
    """
    decoder: Literal["auto", "nvdec", "dali_cpu", "pyav", "jpeg", "hybrid"] = "auto"
    """`auto`: NVDEC on a GPU for each video that it decodes correctly, CPU threads (pyav) for the others
    (docs/data.md). `nvdec`: the same, but an error if NVDEC does not work. `dali_cpu`: DALI's CPU decoder for VP8, VP9
    and MJPEG. `hybrid`: CPU threads decode a fraction of every batch, NVDEC the rest. `jpeg`: folders of frames; a list
    has lines `folder frames label` or `folder label`.
    """
    cpu_share: float | Literal["auto"] = "auto"
    """Fraction of the videos of every batch that CPU threads decode (decoder: hybrid). `auto` adjusts it at run time,
    so two runs may decode a video with different decoders, whose pixels differ slightly.
    """
    frame_pattern: str = "img_{:05}.jpg"
    """File name of a frame, with its number from 1 (decoder: jpeg)."""
    balance: Literal["none", "classes"] = "none"
    """`classes`: training uses videos of every class equally often, those of small classes several times per epoch."""
    overlap: Literal["path", "content"] = "path"
    """Report held-out videos that are also training videos: the same files, or also copies of them."""
    max_bad_fraction: float = 0.01
    """Training and scanning stop if more than this fraction of the videos is unreadable."""
    divided: int = 0
    """Number of videos that data.val=auto divided into two lists, chosen by train.py: `max_bad_fraction` is a fraction
    of them, not of the videos of one side; 0: the lists are not divided.
    """

    def allows_bad(self, bad: int, total: int) -> bool:
        """Return True if `bad` of `total` videos of a list may be unreadable."""
        return bad <= self.max_bad_fraction * max(total, self.divided) + 1e-6  # 0.29 * 100 is less than 29

    @property
    def in_store(self) -> bool:
        """Return True if videos or lists are in a store."""
        return any("://" in str(place) for place in (self.root, self.train, self.val, self.test))

    def problems(self) -> Iterator[Problem]:
        yield from check_fractions(self, "max_bad_fraction", "cpu_share")
        if not re.fullmatch(r"[^/{}]*\{(:0\d+d?)?\}[^/{}]*", self.frame_pattern):
            yield (
                "frame_pattern",
                f"{self.frame_pattern!r} is no pattern for the number of a frame, such as img_{{:05}}.jpg",
            )
        yield from self._problems_of_urls()
        yield from check_minimums(self, cache_gb=0, divided=0)
        if not 0 < self.held_out < 1:
            yield "held_out", f"{self.held_out:g} is not between 0 and 1"
        try:
            re.compile(self.group_regex)
        except re.error as error:
            yield "group_regex", f"{self.group_regex!r} is not a regular expression ({error})"
        if self.source == "video" and not self.train:
            yield "train", "required: a list file or a folder with one sub-folder per class (or data.source=synthetic)"

    def _problems_of_urls(self) -> Iterator[Problem]:
        """Yield problems of addresses in stores. The messages do not repeat the addresses, which may contain
        secrets.
        """
        for name in ("root", "train", "val", "test"):
            scheme, mark, rest = str(getattr(self, name)).partition("://")
            if mark and scheme not in SCHEMES:
                yield name, f"cannot be read; a store begins with one of {', '.join(f'{name}://' for name in SCHEMES)}"
            elif mark and ("?" in rest or "@" in rest):
                yield (
                    name,
                    "contains a query or a password, which would be saved with the run; set the environment instead",
                )
        if self.cache_dir and not self.in_store:
            yield "cache_dir", "keeps videos of a store, and neither data.root nor a list is in one; leave it empty"


@dataclass(frozen=True)
class Clip:
    """Sampling and augmentation of training clips, and normalisation of all clips."""

    sampling: Literal["uniform", "dense"] = "uniform"
    """Frames of a clip: one from each of T segments of the video (TSN), or evenly spaced ones from a window of 64
    frames.
    """
    snap: int = 0
    """Maximum number of frames by which a drawn frame moves back towards a keyframe, within its segment: fewer frames
    to decode, but draws are no longer uniform (sampling: uniform).
    """
    size: int = 224
    """Height and width of the network's input, in pixels."""
    train_crop: Literal["multiscale", "resized", "random", "center"] = "multiscale"
    """`multiscale`: the crop of TSN; `resized`: a random area (crop_area) and aspect ratio from 3/4 to 4/3; `random`,
    `center`: a square of `size`.
    """
    crop_area: tuple[float, float] = (0.08, 1.0)
    """Minimum and maximum area, as a fraction of the frame (train_crop: resized)."""
    crop_positions: Literal[5, 13] = 13
    """Positions of multi-scale crops: 5 are corners and centre, 13 also edges and quarters."""
    multiscale_size: int = 0
    """Resize multi-scale crops to this side and take a random square of `size` from them, as PP-TSM does; 0: resize
    them to `size`.
    """
    short_side: int = 0
    """Scale frames to this short side before the training crop; 0: crop at the stored size, as TSM does."""
    squash: bool = False
    """When scaling to a short side, also in evaluation, set the long side to 4/3 of it, as PaddleVideo's PP-TSM does;
    frames that need no scaling are not changed.
    """
    repeats: int = 1
    """Clips per video that is read (repeated augmentation): the same frames, decoded once, with a different crop, flip
    and augmentation for each clip. train.batch counts clips; an epoch uses each video once, so it has `repeats` times
    as many steps.
    """
    flip: float = 0.5
    """Probability of a horizontal flip."""
    flip_pairs: tuple[int, ...] = ()
    """Pairs of labels that a horizontal flip exchanges, such as left and right: [86, 87, 93, 94] are two pairs."""
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Maximum change of brightness, contrast and saturation (factors) and of hue (at most 0.5), the same for all frames
    of a clip.
    """
    randaugment: int = 0
    """Number of RandAugment operations per clip, the same for all frames; 0: none."""
    randaugment_magnitude: int = 9
    """Strength of these operations, from 0 to 30."""
    erase: float = 0.0
    """Probability of erasing a random box of a clip, the same in all frames."""
    antialias: bool = True
    """true: resize like Pillow (TSM); false: like OpenCV, without antialiasing (PaddleVideo's TSN)."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of red, green and blue that is subtracted, for values in [0, 1]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation of red, green and blue, the divisor."""

    def problems(self) -> Iterator[Problem]:
        yield from check_minimums(self, snap=0, size=SMALLEST, repeats=1, flip_pairs=0, multiscale_size=0)
        yield from check_sides(self, "short_side")
        yield from check_minimums(self, color_jitter=0, randaugment=0, randaugment_magnitude=0)
        yield from check_fractions(self, "flip", "erase")
        if self.color_jitter[3] > 0.5:
            yield "color_jitter", f"a hue of {self.color_jitter[3]:g} is more than half the circle; use at most 0.5"
        if self.multiscale_size and (self.train_crop != "multiscale" or self.multiscale_size < self.size):
            yield "multiscale_size", f"is for train_crop=multiscale, and at least clip.size={self.size}; leave it at 0"
        if self.randaugment_magnitude > 30:
            yield "randaugment_magnitude", f"{self.randaugment_magnitude} is more than 30"
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            yield "crop_area", f"{list(self.crop_area)} are not two ascending fractions, above 0 and at most 1"
        if self.snap and self.sampling != "uniform":
            yield "snap", "dense sampling draws one window and has no segments; leave it at 0"
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
    """Clips per video."""
    sampling: Literal["uniform", "dense"] = "uniform"
    """Frames of a clip, like clip.sampling."""
    frames: int = 0
    """Frames per clip; 0: ten_crop_frames if crops is ten, otherwise model.frames."""
    ten_crop_frames: int = 0
    """Frames per clip if crops is ten and frames is 0; 0: model.frames. TSN's published tests use 25."""
    short_side: int = 256
    """Pixels of the short side before the crop."""
    size: int | Literal["full"] = 0
    """Side of the evaluation crop; 0: clip.size; `full`: short_side, for full-resolution protocols."""
    average: Literal["logits", "probs"] = "logits"
    """Average the logits or the probabilities of a video's views."""
    batch: int = 0
    """Videos per batch over all ranks, in equal parts of at least one; 0: as many as have the number of frames of a
    training batch.
    """

    def problems(self) -> Iterator[Problem]:
        yield from check_minimums(self, clips=1, frames=0, ten_crop_frames=0, short_side=SMALLEST, batch=0)
        yield from check_sides(self, "size")
