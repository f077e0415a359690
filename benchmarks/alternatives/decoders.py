"""Ways to decode the frames of a clip: the project's own, and what one would take instead.

Each is a function clip -> [T, H, W, 3] uint8, RGB, that opens the file, since every clip of an epoch is of another one.
Peers are imported when they are asked for; ImportError or RuntimeError says that one is not there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np

from dali_pipes.cut import cutter
from dali_pipes.cut.decode import decode_frames
from dali_pipes.video.packet_table import Video


@dataclass(frozen=True)
class Clip:
    """What is to be read. `frames_T` rises and has no repeats."""

    path: str
    video: Video  # what a scan found once
    frames_T: np.ndarray


Decoder = Callable[[Clip], np.ndarray]


def cut() -> Decoder:
    """The `pyav` head: the needed packets cut out, then decoded."""
    return lambda clip: decode_frames(cutter.cut(clip.video, clip.frames_T), clip.path)


def torchcodec(seek_mode: str) -> Decoder:
    """torchcodec on the CPU. `exact` scans the file first, `approximate` trusts its header."""
    from torchcodec.decoders import VideoDecoder

    def decode(clip: Clip) -> np.ndarray:
        decoder = VideoDecoder(clip.path, num_ffmpeg_threads=1, dimension_order="NHWC", seek_mode=seek_mode)
        return decoder.get_frames_at(clip.frames_T.tolist()).data.numpy()

    return decode


def torchcodec_cuda() -> Decoder:
    """torchcodec on NVDEC; the frames stay on the GPU, which may be at work on them when they are returned."""
    import torch
    from torchcodec.decoders import VideoDecoder

    if not torch.cuda.is_available():
        raise RuntimeError("there is no GPU")

    def decode(clip: Clip):
        decoder = VideoDecoder(clip.path, device="cuda", dimension_order="NHWC", seek_mode="approximate")
        return decoder.get_frames_at(clip.frames_T.tolist()).data

    return decode


def torchcodec_mapped() -> Decoder:
    """torchcodec given the places of all frames, as a scan would keep them: no scan per clip, and exact."""
    from torchcodec.decoders import VideoDecoder

    maps: dict[str, str] = {}

    def map_of(path: str) -> str:
        with av.open(path) as container:
            packets = sorted((p for p in container.demux(video=0) if p.size), key=lambda p: p.pts)
        names = ("pts", "duration", "key_frame")
        return json.dumps(
            {"frames": [dict(zip(names, (p.pts, p.duration, int(p.is_keyframe)), strict=True)) for p in packets]}
        )

    def decode(clip: Clip) -> np.ndarray:
        mapping = maps.get(clip.path) or maps.setdefault(clip.path, map_of(clip.path))
        decoder = VideoDecoder(clip.path, num_ffmpeg_threads=1, dimension_order="NHWC", custom_frame_mappings=mapping)
        return decoder.get_frames_at(clip.frames_T.tolist()).data.numpy()

    return decode


def decord() -> Decoder:
    """decord, which seeks to keyframes."""
    import decord as library

    def decode(clip: Clip) -> np.ndarray:
        return library.VideoReader(clip.path, num_threads=1).get_batch(clip.frames_T.tolist()).asnumpy()

    return decode


def pyav_seeking() -> Decoder:
    """PyAV as a careful person writes it: a seek to the keyframe before a frame, unless that is already behind."""

    def decode(clip: Clip) -> np.ndarray:
        found = []
        with av.open(clip.path) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
            step = round(1 / (stream.average_rate * stream.time_base))
            first = stream.start_time or 0
            keyframes = clip.video.order[clip.video.groups]
            at, frames = -1, iter(())
            for wanted in clip.frames_T.tolist():
                group = int(keyframes[keyframes.searchsorted(wanted, "right") - 1])
                if group > at:  # nothing decoded so far helps
                    container.seek(first + group * step, stream=stream)
                    frames = container.decode(stream)
                for frame in frames:
                    at = (frame.pts - first) // step
                    if at == wanted:
                        found.append(frame.to_ndarray(format="rgb24"))
                        break
        return np.stack(found)

    return decode


def pyav_whole() -> Decoder:
    """PyAV from the first frame to the last wanted one, as simple readers do."""

    def decode(clip: Clip) -> np.ndarray:
        wanted = set(clip.frames_T.tolist())
        with av.open(clip.path) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
            found = []
            for number, frame in enumerate(container.decode(stream)):
                if number in wanted:
                    found.append(frame.to_ndarray(format="rgb24"))
                if len(found) == len(wanted):
                    break
        return np.stack(found)

    return decode


DECODERS: dict[str, Callable[[], Decoder]] = {
    "ours (cut, pyav)": cut,
    "torchcodec exact": lambda: torchcodec("exact"),
    "torchcodec approximate": lambda: torchcodec("approximate"),
    "torchcodec with a frame map": torchcodec_mapped,
    "torchcodec CUDA": torchcodec_cuda,
    "decord": decord,
    "PyAV with seeks": pyav_seeking,
    "PyAV from the start": pyav_whole,
}
