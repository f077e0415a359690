"""Transcode a video for fast reading: small, closed groups of a fixed length, no B-frames, BT.601 colours, index first.

Writes one file and verifies it; `convert.py` decides which videos, and where to. Every source frame is stored once, at
even intervals, because frames are selected by number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Literal, NamedTuple

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream

from dali_pipes.cut import cutter, decode
from dali_pipes.errors import DataError
from dali_pipes.scan import processes
from dali_pipes.scan.probe import probe
from dali_pipes.video.orientation import TRANSPOSED, UPRIGHT, turned
from dali_pipes.video.packet_table import Video
from dali_pipes.video.pyav import primaries_and_transfer, reformat
from tools.data.conversion import upright

# Matrix coefficients and ranges as ITU-T H.273 numbers them
_UNSPECIFIED, _BT470BG, _BT601 = 2, 5, 6  # 5 and 6 are the same matrix
_LIMITED, _FULL = 1, 2
_UNEVEN = 0.25  # of the usual interval; Matroska's rounding to milliseconds is less


class Encoder(NamedTuple):
    """Encoder options that make files fast to cut and to decode. `{gop}` stands for the keyframe interval."""

    name: str  # FFmpeg's
    quality: int  # the default of --crf
    best: int
    worst: int  # qualities that it has, lower is better
    options: dict[str, str]


_GROUPS = "keyint={gop}:min-keyint=1:scenecut=0:bframes=0:open-gop=0"
ENCODERS = {
    "h264": Encoder("libx264", 23, 0, 51, {"preset": "medium", "x264-params": _GROUPS}),
    "hevc": Encoder(
        "libx265",
        26,
        0,
        51,
        {"preset": "medium", "x265-params": f"{_GROUPS}:pools=none:frame-threads=1:log-level=none"},
    ),
    # No hidden pictures (alternate references), and no frames kept waiting for them
    "vp9": Encoder(
        "libvpx-vp9", 33, 0, 63, {"deadline": "good", "cpu-used": "4", "auto-alt-ref": "0", "lag-in-frames": "0"}
    ),
    "mjpeg": Encoder("mjpeg", 3, 1, 31, {}),
}


@dataclass(frozen=True)
class Settings:
    """Settings of the transcoded videos."""

    codec: Literal["h264", "hevc", "vp9", "mjpeg"] = "h264"
    short_side: int = 256  # pixels
    upscale: bool = False
    gop: int = 8  # frames from one keyframe to the next; docs/data.md says why
    crf: int = ENCODERS["h264"].quality  # on the encoder's scale, lower is better


def write_video(video: Video, target: str, settings: dict) -> dict:
    """Transcode a video to an mp4 at `target`, verify it, and return the record. `settings`: see `Settings`.

    Raises DataError if a frame of the source is damaged, or the verification fails.
    """
    return _write(video, upright.decoded(video.path), video.frames, target, Settings(**settings))


def write_part(video: Video, target: str, settings: dict) -> dict:
    """Do the same with `count` frames of a video from `first` on, two more settings; decode only what they need."""
    first, count = settings["first"], settings["count"]
    others = {name: value for name, value in settings.items() if name not in ("first", "count")}
    cut = cutter.cut(video, np.arange(first, first + count))
    wanted = set(cut.positions.tolist())
    frames = (frame for number, frame in decode.numbered_frames(cut, video.path) if number in wanted)
    return _write(video, frames, count, target, Settings(**others))


def _write(video: Video, frames: Iterator[av.VideoFrame], count: int, target: str, settings: Settings) -> dict:
    """Write `count` frames of a video to `target`, verify it, and return the record."""
    rate = frame_rate(video)
    first = next(frames, None)
    if first is None:
        raise DataError(video.path, "none of its pictures can be decoded")
    times = []
    with _storing(video.path), av.open(target, "w", format="mp4", options={"movflags": "faststart"}) as out:
        stream = _add_stream(out, first, video.orientation, rate, settings)
        reformatter = VideoReformatter()
        for frame in chain([first], frames):
            processes.restart_time_limit()
            stored = _converted(frame, video.orientation, stream, reformatter)
            stored.pts, stored.time_base = len(times), 1 / rate
            times.append(frame.pts)
            out.mux(stream.encode(stored))
        out.mux(stream.encode(None))
    _verify(target, video, count)
    return {
        "width": stream.width,
        "height": stream.height,
        "frames": len(times),
        "bytes": os.path.getsize(target),
        "changes": list(_changes(video, first, times)),
    }


def frame_rate(video: Video) -> Fraction:
    """Return the frames per second of the transcoded video."""
    return Fraction(video.fps).limit_denominator(1001) or Fraction(30)


@contextmanager
def _storing(path: str) -> Iterator[None]:
    """Turn an error of FFmpeg while it writes into a DataError about the source, `path`."""
    try:
        yield
    except av.FFmpegError as error:
        raise DataError(path, f"cannot be transcoded ({error.strerror})") from error


def recoloured(frame: av.VideoFrame) -> bool:
    """Tell whether a source has other colours than BT.601 in limited range, which DALI assumes."""
    return frame.color_range == _FULL or frame.colorspace not in (_UNSPECIFIED, _BT470BG, _BT601)


def _changes(video: Video, first: av.VideoFrame, times: list[int | None]) -> Iterator[str]:
    """Yield the changes apart from size and codec, worded to follow a number of videos."""
    if video.orientation != UPRIGHT:
        yield "turned upright"
    if recoloured(first):
        yield "brought to BT.601 colours"
    if _uneven(times):
        yield "of changing frame rate, whose frames now come at even intervals"


def _add_stream(
    out: OutputContainer, first: av.VideoFrame, turn: int, rate: Fraction, settings: Settings
) -> VideoStream:
    """Add the stream to write to, with the size of the result."""
    encoder = ENCODERS[settings.codec]
    options = {name: value.format(gop=settings.gop) for name, value in encoder.options.items()}
    stream = out.add_stream(encoder.name, rate=rate, options=options | _quality(settings))
    shown = (first.height, first.width) if turn & TRANSPOSED else (first.width, first.height)
    stream.width, stream.height = upright.stored_size(*shown, settings.short_side, settings.upscale)
    stream.pix_fmt = "yuvj420p" if settings.codec == "mjpeg" else "yuv420p"
    context = stream.codec_context
    context.gop_size = settings.gop
    context.max_b_frames = 0
    context.thread_count = 1  # files are transcoded in parallel
    context.colorspace = _BT601
    context.color_range = _FULL if settings.codec == "mjpeg" else _LIMITED
    context.color_primaries, context.color_trc = primaries_and_transfer(first)
    return stream


def _quality(settings: Settings) -> dict[str, str]:
    if settings.codec == "mjpeg":
        return {"qmin": str(settings.crf), "qmax": str(settings.crf)}
    return {"crf": str(settings.crf)}


def _converted(frame: av.VideoFrame, turn: int, stream: VideoStream, reformatter: VideoReformatter) -> av.VideoFrame:
    """Convert a frame to the size, pixel format and colours of the stream, upright."""
    width, height = stream.width, stream.height
    if turn & TRANSPOSED:
        width, height = height, width
    scaled = reformat(
        reformatter,
        frame,
        width=width,
        height=height,
        format=stream.pix_fmt,
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=stream.codec_context.color_range,
        interpolation=upright.CAREFUL,
    )
    return scaled if turn == UPRIGHT else _turned(scaled, turn)


def _turned(frame: av.VideoFrame, turn: int) -> av.VideoFrame:
    """Rotate or mirror a yuv420p frame, plane by plane."""
    packed = frame.to_ndarray()
    luma, *chroma = np.split(packed.reshape(-1), np.cumsum([4, 1]) * (packed.size // 6))
    height, width = frame.height, frame.width
    planes = [luma.reshape(height, width), *(plane.reshape(height // 2, width // 2) for plane in chroma)]
    flat = np.concatenate([turned(plane, turn).reshape(-1) for plane in planes])
    shown_width = height if turn & TRANSPOSED else width
    return av.VideoFrame.from_ndarray(flat.reshape(-1, shown_width), format=frame.format.name)


def _verify(target: str, source: Video, count: int) -> None:
    """Decode the result. Raises DataError unless it has `count` frames and can be cut frame by frame."""
    written = probe(target, "full")
    if written.frames != count:
        raise DataError(source.path, f"gave {written.frames} frames where the scan saw {count}")
    if written.access != "ranged" or written.reordered:
        raise DataError(source.path, "what was written cannot be cut frame by frame")


def _uneven(times: list[int | None]) -> bool:
    """Tell whether the intervals of frame times (in ticks) vary; False if the file has no times."""
    if len(times) < 3 or None in times:
        return False
    gaps = np.diff(times)
    usual = np.median(gaps)
    return bool((np.abs(gaps - usual) > _UNEVEN * usual).any())
