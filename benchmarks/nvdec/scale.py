"""The sizes of the measurements: full size on a GPU, toy size with DALI's own decoder on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.harness.numbered_videos import VideoSpec


@dataclass(frozen=True)
class Scale:
    """The sizes of all measurements at one scale."""

    device: Literal["gpu", "cpu"]
    head: Literal["nvdec", "dali_cpu"]
    codecs: tuple[str, ...]  # the first is the one that variations are made of
    intervals: tuple[int, ...]  # frames from one keyframe to the next
    usual_interval: int
    b_frames: tuple[int, ...]
    awkward: tuple[VideoSpec, ...]  # videos that training does not give to NVDEC (dali_pipes/feed/nvdec.py)
    base: VideoSpec  # what all videos have in common
    odd_width: int  # not a multiple of 16: coded wider than shown
    clip_frames: int
    threads: tuple[int, ...]
    usual_threads: int
    batches: tuple[int, ...]
    clips: int  # in one timed repeat
    joined: tuple[int, ...]  # clips in one stream
    rounds: int  # repeats at most
    train_batch: int
    train_steps: int
    recipe: tuple[str, ...]  # overrides of the training recipe
    demo_scenes: tuple[int, int]  # to train on, held out
    demo_recipe: tuple[str, ...]  # overrides of the demo recipe

    @property
    def usual(self) -> VideoSpec:
        """Return the video as `transcode` would prepare it: frequent keyframes, no B-frames."""
        return replace(self.base, codec=self.codecs[0], interval=self.usual_interval)

    @property
    def all_videos(self) -> list[VideoSpec]:
        """Return the combinations of codec, keyframe interval, B-frames and width, without duplicates."""
        return [
            replace(self.base, codec=codec, interval=interval, b_frames=b_frames, width=width)
            for codec in self.codecs
            for interval in self.intervals
            for b_frames in self.b_frames
            for width in (self.base.width, self.odd_width)
            if interval == 1 or codec != "mjpeg"
            if interval > 1 or not b_frames
        ]

    @property
    def coloured(self) -> list[VideoSpec]:
        """Return the usual video of every codec with each combination of colour flags."""
        return [
            replace(self.usual, codec=codec, colours=colours)
            for codec in self.codecs
            for colours in ("untagged", "bt709", "full_range")
        ]


GPU = Scale(
    device="gpu",
    head="nvdec",
    codecs=("h264", "hevc"),
    intervals=(1, 8, 16, 250),
    usual_interval=16,
    b_frames=(0, 2),
    awkward=(
        VideoSpec("vp9", 16),
        VideoSpec("vp9", 16, kind="hidden"),
        VideoSpec("vp9", 16, width=427, height=240),  # as Something-Something has them
        VideoSpec("mpeg4", 12, width=320, height=240),  # UCF101
        VideoSpec("h264", 16, kind="interlaced"),
        VideoSpec("h264", 16, kind="10bit"),
        VideoSpec("hevc", 16, kind="10bit"),
        VideoSpec("hevc", 16, width=128, height=96),
    ),
    base=VideoSpec("h264"),
    odd_width=340,
    clip_frames=8,
    threads=(4, 8, 16, 32),
    usual_threads=16,
    batches=(16, 64),
    clips=192,
    joined=(4, 8),
    rounds=9,
    train_batch=64,
    train_steps=10,
    recipe=(),
    demo_scenes=(120, 40),
    demo_recipe=(),
)
CPU = Scale(
    device="cpu",
    head="dali_cpu",
    codecs=("vp9", "mjpeg"),
    intervals=(1, 8, 24),
    usual_interval=8,
    b_frames=(0,),
    awkward=(VideoSpec("vp9", 8, width=97, height=65, frames=32, kind="hidden"),),
    base=VideoSpec("vp9", width=96, height=64, frames=32),
    odd_width=90,
    clip_frames=4,
    threads=(1, 2),
    usual_threads=2,
    batches=(2, 4),
    clips=8,
    joined=(4,),
    rounds=3,
    train_batch=4,
    train_steps=4,
    recipe=("model.backbone=resnet18", "model.width=8", "model.frames=4", "clip.size=32", "runtime.precision=fp32"),
    demo_scenes=(6, 2),
    demo_recipe=("train.epochs=1", "train.batch=8"),
)
SCALES = {"gpu": GPU, "cpu": CPU}
