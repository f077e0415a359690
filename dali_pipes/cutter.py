"""The cut: a video and the frames wanted of it become the smallest bytes that a decoder can turn into those frames.

Owns which packets are needed, reading them, and where each wanted frame stands in the result. Decodes nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from dali_pipes import bitstream, container, mp4
from dali_pipes.errors import DataError
from dali_pipes.video import DISPOSABLE, INVISIBLE, KEYFRAME, Video


@dataclass(frozen=True)
class Cut:
    """A small valid mp4 in memory, or the whole file where `Video.access` is `whole`."""

    data: bytes
    positions: np.ndarray
    """[T] int32: for each wanted frame, in the order asked for, its number among the frames that `data` decodes to."""
    packets: int
    """Compressed pictures in `data`: what a decoder has to decode."""
    shape: tuple[int, int]
    """Height and width that the scan saw, in pixels."""
    timed: bool = True
    """Frame k of `data` starts at k * mp4.DURATION ticks; False for a whole file, whose frames are counted."""


def cut(video: Video, frames: np.ndarray) -> Cut:
    """Read what `frames` ([T] frame numbers, in any order, repeats allowed) need. Raises DataError naming the file."""
    frames, shape = np.asarray(frames), (video.height, video.width)
    descriptor = _open_unchanged(video)
    try:
        if video.access == "whole":
            data = _read(video, descriptor, 0, video.size)
            return Cut(data, frames.astype(np.int32), len(video.packets), shape, timed=False)
        keep = needed(video, frames)
        read = _read_ranges if video.access == "ranged" else _read_demuxed
        body, sizes = read(video, descriptor, keep)
    finally:
        os.close(descriptor)
    shown = _shown(video, keep)
    sync = _fresh_starts(video, keep)
    if video.codec == "hevc":
        body = _break_links(video, body, sizes, sync)
    head = mp4.write(video.description, video.width, video.height, sizes, shown, sync)
    positions = shown[keep.searchsorted(video.decode_position[frames])]
    return Cut(head + body, positions.astype(np.int32), len(keep), shape)


def needed(video: Video, frames: np.ndarray) -> np.ndarray:
    """[P] ascending packet indices: each wanted picture's keyframe up to itself, less pictures that nothing refers to.

    A leading picture (decoded after its group's keyframe, shown before it) also needs the whole group before. Nothing
    that stays refers to leading pictures that nobody wants, so those go, and no cut starts with undecodable ones.
    """
    wanted = video.decode_position[np.asarray(frames)]
    start = video.groups[video.groups.searchsorted(wanted, "right") - 1]
    keep = np.zeros(len(video.packets), bool)
    kept = video.trailing
    for first, last, leading in zip(start.tolist(), wanted.tolist(), video.leading[wanted].tolist(), strict=True):
        keep[first:last] |= kept[first:last]
        if leading:
            _keep_for_leading(video, keep, first, last)
    keep[start] = keep[wanted] = True
    return keep.nonzero()[0]


def _shown(video: Video, keep: np.ndarray) -> np.ndarray:
    """[P] the place of each kept packet's picture among the pictures that the cut shows."""
    visible = video.flags[keep] & INVISIBLE == 0
    by_order = video.order[keep].argsort() if video.reordered else slice(None)
    shown = np.empty(len(keep), np.int64)
    shown[by_order] = visible[by_order].cumsum() - visible[by_order]
    return shown


def _keep_for_leading(video: Video, keep: np.ndarray, keyframe: int, last: int) -> None:
    """Mark in `keep` what the leading picture `last` of the group at `keyframe` refers to."""
    before = video.groups[video.groups.searchsorted(keyframe) - 1] if keyframe > video.groups[0] else keyframe
    keep[before:keyframe] |= video.trailing[before:keyframe]
    keep[before] = True
    keep[keyframe:last] |= video.flags[keyframe:last] & DISPOSABLE == 0  # leading pictures refer to each other


def _open_unchanged(video: Video) -> int:
    """A descriptor of the file, which is still the one that was scanned."""
    try:
        descriptor = os.open(video.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DataError(f"{video.path}: cannot be opened ({error.strerror}); it was there when scanned") from error
    now = os.fstat(descriptor)
    if (now.st_size, now.st_mtime_ns) != (video.size, video.mtime_ns):
        os.close(descriptor)
        seen = f"{now.st_size} bytes instead of {video.size}" if now.st_size != video.size else "a newer time stamp"
        raise DataError(f"{video.path}: changed since the scan ({seen}); scan the list again")
    return descriptor


def _read(video: Video, descriptor: int, offset: int, size: int) -> bytes:
    """`size` bytes at `offset`; the kernel may hand them over in parts."""
    try:
        data = os.pread(descriptor, size, offset)
        while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
            data += more
    except OSError as error:
        raise DataError(f"{video.path}: cannot be read at byte {offset} ({error.strerror})") from error
    if len(data) < size:
        raise DataError(f"{video.path}: ends at byte {offset + len(data)}, inside a packet; scan the list again")
    return data


def _read_ranges(video: Video, descriptor: int, keep: np.ndarray) -> tuple[bytes, np.ndarray]:
    """The kept packets, back to back, and the size of each; neighbours in the file are one read."""
    sizes = video.sizes[keep]
    begin = video.offsets[keep]
    end = begin + sizes
    breaks = (begin[1:] != end[:-1]).nonzero()[0]
    starts = [int(begin[0]), *begin[breaks + 1].tolist()]
    stops = [*end[breaks].tolist(), int(end[-1])]
    runs = [_read(video, descriptor, start, stop - start) for start, stop in zip(starts, stops, strict=True)]
    return b"".join(runs), sizes


def _read_demuxed(video: Video, descriptor: int, keep: np.ndarray) -> tuple[bytes, np.ndarray]:
    """The kept packets, back to back, and the size of each, out of one pass over the file in memory."""
    content = _read(video, descriptor, 0, video.size)
    wanted, last = set(keep.tolist()), int(keep[-1])
    kept = []
    with container.open_video(video.path, content) as (source, stream):
        convert = bitstream.as_stored_in_mp4(video.codec, stream.codec_context.extradata or b"")
        for index, packet in enumerate(container.packets(source, stream)):
            if index in wanted:
                kept.append(convert(bytes(packet)))
            if index == last:
                break
    if len(kept) < len(keep):
        raise DataError(f"{video.path}: holds fewer packets than when scanned; scan the list again")
    return b"".join(kept), np.fromiter(map(len, kept), np.int64, len(kept))


def _fresh_starts(video: Video, keep: np.ndarray) -> np.ndarray:
    """[S] the places in the cut of keyframes that need nothing before them: those without wanted leading pictures."""
    sync = (video.flags[keep] & KEYFRAME).nonzero()[0]
    leads_on = np.add.reduceat(video.leading[keep], sync, dtype=np.int64) if video.leading.any() else 0
    return sync[(leads_on == 0) | (sync == 0)]


def _break_links(video: Video, body: bytes, sizes: np.ndarray, sync: np.ndarray) -> bytes:
    """`body` with each HEVC group that starts afresh marked so; in open groups the numbers of pictures run on."""
    prefix = bitstream.length_size(mp4.configuration(video.description, b"hvcC"), "hevc")
    ends = sizes.cumsum()
    marked = bytearray(body)
    for place in sync.tolist():
        bitstream.break_link(marked, prefix, int(ends[place] - sizes[place]), int(ends[place]))
    return bytes(marked)
