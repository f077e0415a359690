"""Decode a whole file, and check that its cuts decode to the same frames.

The frames of the full decode have the number of their packet, which gives the display order if the container's
timestamps do not. This is slow: it is for scans that request it, and for the few files with doubts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TypeVar

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from dali_pipes.cut import cutter, decode
from dali_pipes.errors import DataError
from dali_pipes.scan import processes
from dali_pipes.storage.opening import read_all
from dali_pipes.video import container
from dali_pipes.video.bitstream.mpeg import has_fields
from dali_pipes.video.packet_table import DISPOSABLE, HIDDEN, INVISIBLE, Video

Item = TypeVar("Item")
_GUESSED = ("h264", "hevc")  # FFmpeg guesses missing values, such as the reorder depth
_RANDOM_CLIPS, _CLIP_FRAMES = 4, 8  # random clips, compared after all groups


def verify_cuts(video: Video) -> Video:
    """Decode the whole file; return the video with the packet table whose cuts decode correctly, or marked as read
    whole.

    Raises DataError if pictures are damaged, change size, or differ from a plain decode.
    """
    source_P, digests, (width, height) = _full_decode(video)
    video = replace(video, width=width, height=height)
    if video.codec in _GUESSED and _plain_decode(video) != digests:
        reason = "FFmpeg's frames depend on how strict it is: pictures are damaged, or headers incomplete"
        raise DataError(video.path, reason)
    for candidate in _candidates(video, source_P):
        if _cuts_like(candidate, digests):
            return candidate
    return replace(video, access="whole", frames=len(digests))


def decode_ends(video: Video) -> None:
    """Decode the first and the last group of pictures. Raises DataError if that fails."""
    group_F = video.groups.searchsorted(video.decode_position, "right")
    for group in {int(group_F[0]), int(group_F[-1])}:
        for _ in _decoded(video, np.flatnonzero(group_F == group)):
            pass


def _full_decode(video: Video) -> tuple[list[int], list[bytes], tuple[int, int]]:
    """Return the packet index and pixel digest of each frame of the full decode, and the frame size."""
    sources, digests, damaged, sizes = [], [], set(), set()
    reformatter = VideoReformatter()
    for index, frame in _each_frame(video):
        if frame is None or frame.is_corrupt:
            damaged.add(index)
            continue
        sizes.add((frame.width, frame.height))
        sources.append(index)
        digests.append(_digest(frame, reformatter))
    if damaged:
        raise DataError(video.path, f"{len(damaged)} of {len(video.packets)} pictures are damaged")
    if not digests:
        raise DataError(video.path, f"none of its {len(video.packets)} pictures can be decoded")
    if len(sizes) > 1:
        seen = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise DataError(video.path, f"its pictures change size: {seen}")
    return sources, digests, sizes.pop()


def _plain_decode(video: Video) -> list[bytes]:
    """Return a digest of each frame that FFmpeg decodes with default options."""
    reformatter = VideoReformatter()
    with container.open_video(video.path) as (source, stream):
        stream.codec_context.thread_type = "NONE"
        packets = _each(chain(container.packets(source, stream), [None]))
        frames = chain.from_iterable(map(stream.codec_context.decode, packets))
        return [_digest(frame, reformatter) for frame in frames]


def _each_frame(video: Video) -> Iterator[tuple[int, av.VideoFrame | None]]:
    """Yield (packet index, frame) of the whole file in display order; None instead of a frame that fails."""
    with container.open_video(video.path) as (source, stream):
        decoder = stream.codec_context
        decode.configure(decoder, fields=_has_fields(video))
        decoder.copy_opaque = True
        decoder.open(strict=False)  # a failure here has no single packet as its cause
        for index, packet in enumerate(_each(chain(container.packets(source, stream), [None]))):
            if packet:
                packet.opaque = index
            try:
                yield from [(frame.opaque, frame) for frame in decoder.decode(packet)]
            except av.FFmpegError:
                yield index, None


def _each(items: Iterable[Item]) -> Iterator[Item]:
    """Yield decoded items; each one restarts the time limit."""
    for item in items:
        processes.restart_time_limit()
        yield item


def _has_fields(video: Video) -> bool:
    if video.codec not in decode.FIELD_PAIRS:
        return False
    return has_fields(read_all(video.path))


def _candidates(video: Video, sources: list[int]) -> Iterator[Video]:
    """Yield packet tables to try: with the container's order, then with the order of the full decode."""
    if video.access == "whole" or None in sources or len(set(sources)) < len(sources):
        return
    for order in (video.order, _order_of(sources, len(video.packets))):
        packets = video.packets.copy()
        packets["order"] = order
        packets["flags"] |= HIDDEN
        packets["flags"][sources] &= ~np.uint8(HIDDEN | INVISIBLE)
        yield replace(video, packets=packets, frames=len(sources))


def _order_of(sources: list[int], count: int) -> np.ndarray:
    """Return [P], the display order; a picture that is not displayed follows the one decoded before it."""
    place = np.full(count, -1.0)
    place[sources] = np.arange(len(sources))
    place = np.where(place < 0, np.maximum.accumulate(place) + 0.5, place)
    return place.argsort(kind="stable").argsort()


def _cuts_like(video: Video, digests: list[bytes]) -> bool:
    """Return True if cuts of each group and of random clips decode to the frames of the full decode."""
    try:
        return all(got == digests[frame] for clip in _clips(video) for frame, got in _decoded(video, clip))
    except DataError:
        return False


def _clips(video: Video) -> Iterator[np.ndarray]:
    """Yield the frames of each group, of parts of it without disposable pictures, and of random clips."""
    group_F = video.groups.searchsorted(video.decode_position, "right")
    disposable_F = video.flags[video.decode_position] & DISPOSABLE > 0
    for group in np.unique(group_F):
        frames = np.flatnonzero(group_F == group)
        yield frames
        others, disposable = frames[~disposable_F[frames]], frames[disposable_F[frames]]
        if len(disposable):
            yield from (part for part in (others, disposable[::2], disposable[1::2]) if len(part))
    rng = np.random.default_rng(0)
    yield from (rng.integers(0, video.frames, _CLIP_FRAMES) for _ in range(_RANDOM_CLIPS))


def _decoded(video: Video, frames: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Yield (frame, pixel digest) of the wanted frames of a cut. Raises DataError if one is missing."""
    small = cutter.cut(video, frames)
    wanted = dict(zip(small.positions.tolist(), frames.tolist(), strict=True))
    reformatter = VideoReformatter()
    for position, frame in _each(decode.numbered_frames(small, video.path)):
        if position in wanted:
            yield wanted.pop(position), _digest(frame, reformatter)
    if wanted:
        raise DataError(video.path, f"{len(wanted)} of {len(frames)} frames do not decode")


def _digest(frame: av.VideoFrame, reformatter: VideoReformatter) -> bytes:
    return hashlib.sha1(np.ascontiguousarray(decode.to_rgb(frame, reformatter)), usedforsecurity=False).digest()
