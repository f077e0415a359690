"""Decode the frames of a cut on the CPU with PyAV, on the caller's thread.

Frames are returned as stored, without rotation, as by DALI. `Video.orientation` says how to turn them upright.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from dali_pipes.cut.cutter import Cut, Layout
from dali_pipes.errors import DataError
from dali_pipes.video import container, mp4
from dali_pipes.video.bitstream.mpeg import has_fields
from dali_pipes.video.pyav import reformat

# `explode`: damage is an error, not a concealed frame. `strict`: if a stream does not declare its reorder depth, FFmpeg
# otherwise guesses it from the first frames, and drops later frames that exceed it.
_OPTIONS = {"err_detect": "explode", "strict": "strict"}
FIELD_PAIRS = ("mpeg1video", "mpeg2video")
_CONFIGURATION = {"h264": b"avcC", "hevc": b"hvcC", "vp9": b""}
"""Codecs whose packets are decoded without a container, and the box of the sample description that the decoder needs.
Opening a container takes as long as decoding a few pictures. Beside the sample description, H.264 needs the size that
the container gives: FFmpeg crops pictures to it if the stream itself has no cropping. Other codecs may need more, such
as MPEG-4's tag."""


def decode_frames(cut: Cut, path: str, out_THWC: np.ndarray | None = None) -> np.ndarray:
    """Decode the wanted frames of a cut, in the order requested: [T, H, W, 3] uint8 RGB, into `out_THWC` or
    new memory.

    Colours are FFmpeg's default conversion (BT.601 unless the stream says otherwise). Raises DataError with `path` if
    the stream is damaged or a frame is missing.
    """
    frames_THWC = np.empty((len(cut.positions), *cut.shape, 3), np.uint8) if out_THWC is None else out_THWC
    for rows, picture_HWC in _wanted_pictures(cut, path):
        for row in rows:
            frames_THWC[row] = picture_HWC
    return frames_THWC


def decode_pictures(cut: Cut, path: str) -> list[np.ndarray]:
    """Decode the wanted frames as a list of T arrays [H, W, 3], which are views of FFmpeg's buffers, without a copy."""
    pictures = {row: picture_HWC for rows, picture_HWC in _wanted_pictures(cut, path) for row in rows}
    return [pictures[row] for row in range(len(pictures))]


def _wanted_pictures(cut: Cut, path: str) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield each decoded frame, [H, W, 3], with the indices at which it was requested."""
    rows_of: dict[int, list[int]] = {}
    for row, position in enumerate(cut.positions.tolist()):
        rows_of.setdefault(position, []).append(row)
    reformatter = VideoReformatter()
    for position, frame in numbered_frames(cut, path):
        if (frame.height, frame.width) != cut.shape:
            raise DataError(path, f"a picture is {frame.width}x{frame.height}, not {cut.shape[1]}x{cut.shape[0]}")
        if rows := rows_of.pop(position, None):
            with container.refusals(path):
                picture_HWC = to_rgb(frame, reformatter)
            yield rows, picture_HWC
            if not rows_of:
                return
    raise DataError(path, f"{sum(map(len, rows_of.values()))} of {len(cut.positions)} wanted frames do not decode")


def numbered_frames(cut: Cut, path: str) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (number, frame) of each frame of a cut in display order. Raises DataError with `path`."""
    if cut.layout is None:
        frames = _counted_frames(cut, path)
    elif cut.layout.codec in _CONFIGURATION:
        frames = _frames_of_packets(cut)
    else:
        frames = _frames_of_container(cut, path)
    with container.refusals(path):
        for number, frame in frames:
            if frame.is_corrupt:
                raise DataError(path, f"frame {number} is damaged")
            yield number, frame


def _counted_frames(cut: Cut, path: str) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (number, frame) of each frame of a whole file. Frames are counted, since timestamps may be wrong."""
    number = 0
    with container.open_video(path, cut.data) as (source, stream):
        configure(stream.codec_context, fields=_has_fields(cut, stream))
        for packet in chain(container.packets(source, stream), [None]):
            for frame in stream.codec_context.decode(packet):
                yield number, frame
                number += 1


def _frames_of_container(cut: Cut, path: str) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (number, frame) of each frame of a small mp4, opened as a file."""
    with container.open_video(path, cut.data) as (source, stream):
        configure(stream.codec_context, fields=_has_fields(cut, stream))
        yield from ((frame.pts // mp4.DURATION, frame) for frame in source.decode(stream))


def _frames_of_packets(cut: Cut) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield (number, frame) of each frame, without a container.

    FFmpeg's HEVC decoder reports an error if a picture order count recurs after a jump, so it is flushed before each
    group.
    """
    layout = cut.layout
    decoder = _bare_decoder(layout, cut.shape)
    ends = set(layout.sync.tolist()) if layout.codec == "hevc" else set()
    view = memoryview(cut.data)
    bounds = zip(layout.starts.tolist(), layout.sizes.tolist(), layout.shown.tolist(), strict=True)
    for place, (start, size, shown) in enumerate(bounds):
        if place in ends:
            yield from _numbered(decoder.decode(None))
            decoder.flush_buffers()
        # Not av.Packet(view[...]): a decoder may read beyond the end of damaged data, and FFmpeg requires zeros there.
        packet = av.Packet(size)
        packet.update(view[start : start + size])
        packet.pts = shown
        yield from _numbered(decoder.decode(packet))
    yield from _numbered(decoder.decode(None))


def _has_fields(cut: Cut, stream: VideoStream) -> bool:
    return stream.codec_context.codec.canonical_name in FIELD_PAIRS and has_fields(bytes(cut.data))


def _numbered(frames: list[av.VideoFrame]) -> Iterator[tuple[int, av.VideoFrame]]:
    return ((frame.pts, frame) for frame in frames)


def _bare_decoder(layout: Layout, shape: tuple[int, int]) -> VideoCodecContext:
    """Create a decoder from the sample description."""
    decoder = av.CodecContext.create(layout.codec, "r")
    configure(decoder)
    decoder.height, decoder.width = shape
    if kind := _CONFIGURATION[layout.codec]:
        decoder.extradata = mp4.configuration(layout.description, kind)
    if colours := mp4.colours(layout.description):
        decoder.color_primaries, decoder.color_trc, decoder.colorspace, decoder.color_range = colours
    return decoder


@lru_cache(maxsize=256)  # many files have the same extradata
def accepts(codec: str, extradata: bytes | None) -> bool:
    """Return True if a decoder accepts a stream's extradata."""
    decoder = av.CodecContext.create(codec, "r")
    configure(decoder)
    decoder.extradata = extradata
    try:
        decoder.open()
    except av.FFmpegError:
        return False
    return True


def configure(decoder: VideoCodecContext, *, fields: bool = False) -> None:
    """Set a decoder to use one thread and to report damage as an error.

    `fields`: the stream is MPEG-2 with field pictures, for which FFmpeg would report an error at each second field.
    Their damage is concealed, as in a plain decode.
    """
    decoder.thread_type = "NONE"
    decoder.thread_count = 1
    decoder.options = {"strict": "strict"} if fields else _OPTIONS


def to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """Convert a frame to [H, W, 3] uint8 RGB, a view; the values equal those of `frame.to_ndarray(format="rgb24")`."""
    plane = reformat(reformatter, frame, format="rgb24").planes[0]
    rows_HB = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows_HB[:, : plane.width * 3].reshape(plane.height, plane.width, 3)
