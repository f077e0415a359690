"""The input of a decoder, and a DALI pipeline that only decodes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from nvidia.dali import Pipeline, fn, pipeline_def, types

from benchmarks.harness.numbered_videos import VideoSpec, number_in, write_videos
from dali_pipes.cut import cutter
from dali_pipes.cut.uncrop import uncrop
from dali_pipes.feed import graph
from dali_pipes.scan.probe import probe
from dali_pipes.video.packet_table import Video


@dataclass(frozen=True)
class Stream:
    """The bytes of a video file, and the frames to return: `positions` in it, which show the numbers `wanted`."""

    data: bytes
    positions: np.ndarray
    wanted: np.ndarray
    packets: int  # frames that have to be decoded to get there


@cache
def scanned(folder: Path, spec: VideoSpec) -> Video:
    """Return the scanned video of a specification, writing the file if it does not exist."""
    write_videos(folder, [spec])
    return probe(str(spec.path(folder)))


def clip_frames(video: Video, frames: int, clip: int) -> np.ndarray:
    """Return ascending frame numbers [T] of clip number `clip`: one of each of T equal segments, as in training."""
    draw_T = np.random.default_rng(clip).random(frames)
    return ((np.arange(frames) + draw_T) * (video.frames / frames)).astype(np.int64)


def whole(video: Video, wanted: np.ndarray) -> Stream:
    """Return the whole file. Decoders that do not seek decode up to the last frame needed."""
    packets = int(video.decode_position[wanted].max()) + 1
    return Stream(Path(video.path).read_bytes(), wanted.astype(np.int32), wanted, packets)


def cut(video: Video, wanted: np.ndarray) -> Stream:
    """Return the cut that training makes."""
    small = cutter.cut(video, wanted)
    return Stream(small.data, small.positions, wanted, small.packets)


def uncropped(video: Video, wanted: np.ndarray) -> Stream:
    """Cut a video for NVDEC: its pictures decode with their padding."""
    small = cutter.cut(video, wanted)
    return Stream(uncrop(small), small.positions, wanted, small.packets)


FORMS: dict[str, Callable[[Video, np.ndarray], Stream]] = {"whole": whole, "cut": cut, "uncropped": uncropped}


@pipeline_def
def decoding_graph(batches: list[tuple[list, list]], where: str):
    """Define a DALI graph that decodes the frames of each stream, uint8 UHWC; an epoch is every batch once."""
    encoded, position_U = fn.external_source(
        source=batches, num_outputs=2, batch=True, cycle="raise", dtype=[types.UINT8, types.INT32], ndim=[1, 1]
    )
    return graph.decode_video(encoded, position_U, where)


def open_decoder(streams: list[Stream], batch: int, head: str, device: str, threads: int) -> Pipeline:
    """Build a pipeline that decodes `streams` once per epoch, `batch` at a time."""
    parts = [streams[first : first + batch] for first in range(0, len(streams), batch)]
    batches = [([np.frombuffer(s.data, np.uint8) for s in part], [s.positions for s in part]) for part in parts]
    device_id = 0 if device == "gpu" else None
    where = "mixed" if head == "nvdec" else "cpu"
    pipeline = decoding_graph(batches, where, batch_size=batch, num_threads=threads, device_id=device_id)
    pipeline.build()
    return pipeline


def epoch(pipeline: Pipeline) -> Iterator:
    """Yield the outputs of all batches of an epoch, then wait for the device."""
    try:
        while True:
            yield pipeline.run()[0]
    except StopIteration:
        pipeline.reset()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def pictures(pipeline: Pipeline) -> list[np.ndarray]:
    """Copy the frames of every sample of an epoch to the host."""
    return [sample for output in epoch(pipeline) for sample in map(np.array, output.as_cpu())]


def decode(streams: list[Stream], head: str, device: str, threads: int = 4) -> list[np.ndarray]:
    """Decode all streams in one batch: the frames of each, [U, H, W, 3] uint8."""
    return pictures(open_decoder(streams, len(streams), head, device, threads))


def wrong_frames(decoded: list[np.ndarray], wanted: list[np.ndarray]) -> list[tuple[int, int]]:
    """List (wanted, shown) of every decoded frame with a wrong number. Raises ValueError if frames are missing."""
    wrong = []
    for frames, numbers in zip(decoded, wanted, strict=True):
        shown = [number_in(picture) for picture in frames]
        wrong += [(int(want), seen) for want, seen in zip(numbers, shown, strict=True) if want != seen]
    return wrong
