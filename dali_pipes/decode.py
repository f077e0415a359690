"""Decoding on CPU threads with PyAV: the frames of a cut as pixels. The caller brings the threads.

Rotation written in a file's header is ignored: frames are as they were coded, as DALI gives them.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from dali_pipes import container, mp4
from dali_pipes.cutter import Cut
from dali_pipes.errors import DataError

# Concealed damage is not a frame of the video: stop at it. Without `strict`, FFmpeg guesses how far pictures of a
# stream that does not say so are reordered from the first few, and drops what then comes too late.
_OPTIONS = {"err_detect": "explode", "strict": "strict"}


def decode_frames(cut: Cut, path: str) -> np.ndarray:
    """[T, H, W, 3] uint8 RGB: the wanted frames of a cut, in the order they were asked for.

    Colours are FFmpeg's default conversion (BT.601 unless the stream says otherwise). Raises DataError naming `path`
    where the stream is damaged or a frame is missing.
    """
    rows_of: dict[int, list[int]] = {}
    for row, position in enumerate(cut.positions.tolist()):
        rows_of.setdefault(position, []).append(row)
    frames_THWC = np.empty((len(cut.positions), *cut.shape, 3), np.uint8)
    reformatter = VideoReformatter()
    with container.open_video(path, cut.data) as (source, stream):
        for position, frame in numbered_frames(source, stream, path, timed=cut.timed):
            if (frame.height, frame.width) != cut.shape:
                raise DataError(f"{path}: a picture is {frame.width}x{frame.height}, not {cut.shape[1]}x{cut.shape[0]}")
            if rows := rows_of.pop(position, None):
                frames_THWC[rows] = to_rgb(frame, reformatter)
                if not rows_of:
                    return frames_THWC
    raise DataError(f"{path}: {sum(map(len, rows_of.values()))} of {len(cut.positions)} wanted frames do not decode")


def numbered_frames(
    source: InputContainer, stream: VideoStream, path: str, *, timed: bool
) -> Iterator[tuple[int, av.VideoFrame]]:
    """(number, frame) of each frame of an open container; numbered by time in a cut, by counting in other files."""
    configure(stream)
    decoded = _frames_of_cut(source, stream) if timed else source.decode(stream)
    for count, frame in enumerate(decoded):
        if frame.is_corrupt:
            raise DataError(f"{path}: frame {count} is damaged")
        yield (frame.pts // mp4.DURATION if timed else count), frame


def _frames_of_cut(source: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Decode group by group. FFmpeg's HEVC decoder takes a picture number that recurs after a jump for an error."""
    decoder = stream.codec_context
    afresh = decoder.name == "hevc"
    for packet in source.demux(stream):
        if afresh and packet.is_keyframe:
            yield from decoder.decode(None)
            decoder.flush_buffers()
        yield from decoder.decode(packet if packet.size else None)


def configure(stream: VideoStream) -> None:
    """One thread, and damage is an error."""
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    stream.codec_context.options = _OPTIONS


def to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """[H, W, 3] uint8 RGB view of a frame; the same numbers as `frame.to_ndarray(format="rgb24")`."""
    plane = reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
    rows_HB = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows_HB[:, : plane.width * 3].reshape(plane.height, plane.width, 3)
