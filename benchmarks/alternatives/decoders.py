"""Decoders of a clip's frames: the project's and its alternatives.

Each is a function clip -> [T, H, W, 3] uint8, RGB, that opens the file, since each clip of an epoch is in another file.
Alternatives are imported on use; ImportError or RuntimeError means that one is not installed.
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
    """The video and frame numbers to read. `frames_T` increases strictly."""

    path: str
    video: Video  # from the scan
    frames_T: np.ndarray


Decoder = Callable[[Clip], np.ndarray]


def cut() -> Decoder:
    """Cut out the needed packets and decode them with PyAV, as the `pyav` decoder does."""
    return lambda clip: decode_frames(cutter.cut(clip.video, clip.frames_T), clip.path)


def torchcodec(seek_mode: str) -> Decoder:
    """Decode with torchcodec on the CPU. `exact` scans the file first, `approximate` trusts its header."""
    from torchcodec.decoders import VideoDecoder

    def decode(clip: Clip) -> np.ndarray:
        decoder = VideoDecoder(clip.path, num_ffmpeg_threads=1, dimension_order="NHWC", seek_mode=seek_mode)
        return decoder.get_frames_at(clip.frames_T.tolist()).data.numpy()

    return decode


def torchcodec_cuda() -> Decoder:
    """Decode with torchcodec on NVDEC; the frames stay on the GPU, which may still be writing them."""
    import torch
    from torchcodec.decoders import VideoDecoder

    if not torch.cuda.is_available():
        raise RuntimeError("there is no GPU")

    def decode(clip: Clip):
        decoder = VideoDecoder(clip.path, device="cuda", dimension_order="NHWC", seek_mode="approximate")
        return decoder.get_frames_at(clip.frames_T.tolist()).data

    return decode


def torchcodec_mapped() -> Decoder:
    """Decode with torchcodec and a saved frame map: exact, without a scan per clip."""
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
    """Decode with decord, which seeks to keyframes."""
    import decord as library

    def decode(clip: Clip) -> np.ndarray:
        return library.VideoReader(clip.path, num_threads=1).get_batch(clip.frames_T.tolist()).asnumpy()

    return decode


def pyav_seeking() -> Decoder:
    """Decode with PyAV, seeking to the keyframe before each frame unless decoding has already passed it."""

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
                if group > at:  # the frame cannot be reached without a seek
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
    """Decode with PyAV from the first frame to the last one needed, as simple readers do."""

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
