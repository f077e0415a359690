"""Decoding on CPU threads with PyAV: the frames of a cut as pixels. The caller brings the threads.

Rotation written in a file's header is ignored: frames are as they were coded, as DALI gives them.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from dali_pipes.cut.cutter import Cut, Layout
from dali_pipes.errors import DataError
from dali_pipes.video import container, mp4
from dali_pipes.video.pyav import reformat

# Concealed damage is not a frame of the video: stop at it. Without `strict`, FFmpeg guesses how far pictures of a
# stream that does not say so are reordered from the first few, and drops what then comes too late.
_OPTIONS = {"err_detect": "explode", "strict": "strict"}
_CONFIGURATION = {"h264": b"avcC", "hevc": b"hvcC", "vp9": b""}
"""Codecs that need no container around their packets, and the box of the sample description that their decoder needs.
Opening a container costs as much as decoding a few pictures; of what else it says of a stream (MPEG-4's tag, say, or
the size of its pictures) these need nothing."""


def decode_frames(cut: Cut, path: str) -> np.ndarray:
    """[T, H, W, 3] uint8 RGB: the wanted frames of a cut, in the order they were asked for.

    Colours are FFmpeg's default conversion (BT.601 unless the stream says otherwise). Raises DataError naming `path`
    where the stream is damaged or a frame is missing.
    """
    frames_THWC = np.empty((len(cut.positions), *cut.shape, 3), np.uint8)
    for rows, picture_HWC in _wanted_pictures(cut, path):
        for row in rows:
            frames_THWC[row] = picture_HWC
    return frames_THWC


def decode_pictures(cut: Cut, path: str) -> list[np.ndarray]:
    """The same as T pictures [H, W, 3], each in the memory that the conversion of its colours left it in."""
    pictures = {row: picture_HWC for rows, picture_HWC in _wanted_pictures(cut, path) for row in rows}
    return [pictures[row] for row in range(len(pictures))]


def _wanted_pictures(cut: Cut, path: str) -> Iterator[tuple[list[int], np.ndarray]]:
    """Each wanted picture, [H, W, 3], and the places at which it was asked for."""
    rows_of: dict[int, list[int]] = {}
    for row, position in enumerate(cut.positions.tolist()):
        rows_of.setdefault(position, []).append(row)
    reformatter = VideoReformatter()
    for position, frame in numbered_frames(cut, path):
        if (frame.height, frame.width) != cut.shape:
            raise DataError(path, f"a picture is {frame.width}x{frame.height}, not {cut.shape[1]}x{cut.shape[0]}")
        if rows := rows_of.pop(position, None):
            yield rows, to_rgb(frame, reformatter)
            if not rows_of:
                return
    raise DataError(path, f"{sum(map(len, rows_of.values()))} of {len(cut.positions)} wanted frames do not decode")


def numbered_frames(cut: Cut, path: str) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, frame) of each frame of a cut in the order shown. Raises DataError naming `path`."""
    if cut.layout is None:
        frames = _counted_frames(cut, path)
    elif cut.layout.codec in _CONFIGURATION:
        frames = _frames_of_packets(cut.data, cut.layout)
    else:
        frames = _frames_of_container(cut, path)
    with container.refusals(path):
        for number, frame in frames:
            if frame.is_corrupt:
                raise DataError(path, f"frame {number} is damaged")
            yield number, frame


def _counted_frames(cut: Cut, path: str) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, frame) of each frame of a whole file. They are counted: its times may be anything."""
    with container.open_video(path, cut.data) as (source, stream):
        configure(stream.codec_context)
        yield from enumerate(source.decode(stream))


def _frames_of_container(cut: Cut, path: str) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, frame) of each frame of a small mp4, opened as a file."""
    with container.open_video(path, cut.data) as (source, stream):
        configure(stream.codec_context)
        yield from ((frame.pts // mp4.DURATION, frame) for frame in source.decode(stream))


def _frames_of_packets(data: bytes, layout: Layout) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, frame) of each picture, from packets alone.

    FFmpeg's HEVC decoder takes a picture number that recurs after a jump for an error: each group ends before the next.
    """
    decoder = _bare_decoder(layout)
    ends = set(layout.sync.tolist()) if layout.codec == "hevc" else set()
    view = memoryview(data)
    bounds = zip(layout.starts.tolist(), layout.sizes.tolist(), layout.shown.tolist(), strict=True)
    for place, (start, size, shown) in enumerate(bounds):
        if place in ends:
            yield from _numbered(decoder.decode(None))
            decoder.flush_buffers()
        packet = av.Packet(view[start : start + size])
        packet.pts = shown
        yield from _numbered(decoder.decode(packet))
    yield from _numbered(decoder.decode(None))


def _numbered(frames: list[av.VideoFrame]) -> Iterator[tuple[int, av.VideoFrame]]:
    return ((frame.pts, frame) for frame in frames)


def _bare_decoder(layout: Layout) -> VideoCodecContext:
    """A decoder that knows what the sample description says."""
    decoder = av.CodecContext.create(layout.codec, "r")
    configure(decoder)
    if kind := _CONFIGURATION[layout.codec]:
        decoder.extradata = mp4.configuration(layout.description, kind)
    if colours := mp4.colours(layout.description):
        decoder.color_primaries, decoder.color_trc, decoder.colorspace, decoder.color_range = colours
    return decoder


def configure(decoder: VideoCodecContext) -> None:
    """One thread, and damage is an error."""
    decoder.thread_type = "NONE"
    decoder.thread_count = 1
    decoder.options = _OPTIONS


def to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """[H, W, 3] uint8 RGB view of a frame; the same numbers as `frame.to_ndarray(format="rgb24")`."""
    plane = reformat(reformatter, frame, format="rgb24").planes[0]
    rows_HB = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows_HB[:, : plane.width * 3].reshape(plane.height, plane.width, 3)
