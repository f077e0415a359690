"""The cut: a video and the frames wanted of it become the smallest bytes that a decoder can turn into those frames.

Owns which packets are needed, how they are read, and where each wanted frame stands in the result. Decodes nothing.

Many videos are cut at once: laid end to end they are one long video, and its arithmetic costs little more than that of
a short one, most of which is calls to NumPy. Of its P packets K are kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dali_pipes.cut.reading import _opened, _read, holding_read_lock, read_cached, releasing_read_lock
from dali_pipes.errors import DataError, attempt
from dali_pipes.video import bitstream, container, mp4
from dali_pipes.video.packet_table import DISPOSABLE, INVISIBLE, KEYFRAME, Joined, PacketTable, Video


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands in a cut, for a decoder that takes packets and needs no container."""

    codec: str
    description: bytes  # as `Video` has it
    starts: np.ndarray  # [K] where each packet begins
    sizes: np.ndarray  # [K] and how many bytes it has
    shown: np.ndarray  # [K] the place of its picture among those that the cut shows
    sync: np.ndarray  # [S] which are keyframes that need nothing before them


@dataclass(frozen=True, slots=True)
class Cut:
    """A small valid mp4 in memory, or the whole file where `Video.access` is `whole`."""

    data: bytes
    positions: np.ndarray
    """[T] int32: for each wanted frame, in the order asked for, its number among the frames that `data` decodes to."""
    packets: int
    """Compressed pictures in `data`: what a decoder has to decode."""
    shape: tuple[int, int]
    """Height and width that the scan saw, in pixels."""
    layout: Layout | None = None
    """Of a small mp4, whose frame k starts at k * mp4.DURATION ticks; None for a whole file: its frames are counted."""


def cut(video: Video, frames: np.ndarray) -> Cut:
    """Read what `frames` need: [T] frame numbers, at least one, in any order, repeats allowed.

    Raises DataError, naming the file, where it cannot be read or is not what was scanned.
    """
    (result,) = cut_all([video], [np.asarray(frames)])
    if isinstance(result, DataError):
        raise result
    return result


def cut_all(videos: Sequence[Video], frames: Sequence[np.ndarray]) -> list[Cut | DataError]:
    """For each video and the frames wanted of it, what `cut` returns or raises."""
    with _opened(videos) as descriptors, holding_read_lock():
        jobs = zip(videos, frames, descriptors, _plans(videos, frames), strict=True)
        return [attempt(_cut, *job) for job in jobs]


def needed(table: PacketTable, frames: np.ndarray) -> np.ndarray:
    """[K] ascending packet indices: each wanted picture's keyframe up to itself, less pictures that nothing refers to.

    A leading picture (decoded after its group's keyframe, shown before it) also needs the whole group before. Nothing
    that stays refers to leading pictures that nobody wants, so those go, and no cut starts with undecodable ones.
    """
    wanted = table.decode_position[np.asarray(frames)]
    group = table.groups.searchsorted(wanted, "right") - 1
    start, count = table.groups[group], len(table.packets)
    # For each packet, how many wanted pictures of its group come after it.
    wanted_ahead = (np.bincount(start, minlength=count) - np.bincount(wanted, minlength=count)).cumsum()
    keep = (wanted_ahead > 0) & table.trailing
    for place in table.leading[wanted].nonzero()[0].tolist():
        _keep_for_leading(table, keep, group[place], wanted[place])
    keep[start] = keep[wanted] = True
    return keep.nonzero()[0]


def _keep_for_leading(table: PacketTable, keep: np.ndarray, group: int, last: int) -> None:
    """Mark in `keep` what the leading picture `last` of a group refers to."""
    keyframe = table.groups[group]
    if keyframe not in table.starts:
        before = table.groups[group - 1]
        keep[before:keyframe] |= table.trailing[before:keyframe]
        keep[before] = True
    keep[keyframe:last] |= table.flags[keyframe:last] & DISPOSABLE == 0  # leading pictures refer to each other


class _Plan(NamedTuple):
    """What one cut is made of."""

    keep: np.ndarray  # [K] indices of its packets
    sizes: np.ndarray  # [K] bytes of each
    shown: np.ndarray  # [K] the place of each one's picture among those that the cut shows
    sync: np.ndarray  # [S] places in `keep` of the keyframes that need nothing before them
    positions: np.ndarray  # [T] int32: `shown` of the wanted frames
    runs: list[tuple[int, int]]  # (offset, bytes) of each read: packets that are neighbours in the file are one


def _plans(videos: Sequence[Video], frames: Sequence[np.ndarray]) -> Iterator[_Plan | None]:
    """How each video is cut; None where it is read whole."""
    small = [pair for pair in zip(videos, frames, strict=True) if pair[0].access != "whole"]
    plans = _plan(*zip(*small, strict=True)) if small else iter(())
    return (None if video.access == "whole" else next(plans) for video in videos)


def _plan(videos: Sequence[Video], frames: Sequence[np.ndarray]) -> Iterator[_Plan]:
    """The plan of each cut, from one pass over the packets of all. At least one frame of each video is wanted."""
    table, counts = Joined(videos), [len(frames_T) for frames_T in frames]
    wanted = np.concatenate(frames) + table.first_frames.repeat(counts)
    keep = needed(table, wanted)
    seams = keep.searchsorted(table.starts)
    kept = np.diff(seams, append=len(keep))
    sync = _fresh_starts(table, keep, seams)
    shown = _shown(table, keep)
    shown -= np.minimum.reduceat(shown, seams).repeat(kept)
    positions = shown[keep.searchsorted(table.decode_position[wanted])].astype(np.int32)
    sizes, offsets = (table.packets[name][keep].astype(np.int64) for name in ("size", "offset"))
    run_starts = _run_starts(offsets, sizes, seams)
    runs = list(zip(offsets[run_starts].tolist(), np.add.reduceat(sizes, run_starts).tolist(), strict=True))

    # Up to here indices run on from one video to the next; those of a plan count from the start of its own video.
    sync_seams, run_seams = sync.searchsorted(seams), run_starts.searchsorted(seams)
    sync -= seams.repeat(np.diff(sync_seams, append=len(sync)))
    keep -= table.starts.repeat(kept)
    parts = [
        _split(array, starts)
        for array, starts in (
            (keep, seams), (sizes, seams), (shown, seams), (sync, sync_seams),
            (positions, np.cumsum([0, *counts[:-1]])), (runs, run_seams),
        )
    ]  # fmt: skip
    return map(_Plan, *parts)


def _split(values: np.ndarray | list, starts: np.ndarray) -> Iterator:
    """The parts of `values` that begin at `starts`."""
    bounds = [*starts.tolist(), len(values)]
    return (values[first:last] for first, last in pairwise(bounds))


def _shown(table: PacketTable, keep: np.ndarray) -> np.ndarray:
    """[K] the place of each kept packet's picture among the pictures that are kept and shown."""
    visible = table.flags[keep] & INVISIBLE == 0
    by_order = table.order[keep].argsort()
    shown = np.empty(len(keep), np.int64)
    shown[by_order] = visible[by_order].cumsum() - visible[by_order]
    return shown


def _fresh_starts(table: PacketTable, keep: np.ndarray, seams: np.ndarray) -> np.ndarray:
    """[S] the places in `keep` of keyframes that need nothing before them: those without wanted leading pictures, and
    the first of each video, which stand at `seams`.
    """
    sync = (table.flags[keep] & KEYFRAME).nonzero()[0]
    fresh = np.add.reduceat(table.leading[keep], sync, dtype=np.int64) == 0
    fresh[sync.searchsorted(seams)] = True
    return sync[fresh]


def _run_starts(offsets: np.ndarray, sizes: np.ndarray, seams: np.ndarray) -> np.ndarray:
    """[R] the places of packets that do not lie right behind the one before them in the same file."""
    apart = np.ones(len(offsets), bool)
    apart[1:] = offsets[1:] != offsets[:-1] + sizes[:-1]
    apart[seams] = True
    return apart.nonzero()[0]


def _cut(video: Video, frames: np.ndarray, descriptor: int | DataError, plan: _Plan | None) -> Cut:
    """The small mp4 of a plan; without a plan, the file itself."""
    if isinstance(descriptor, DataError):
        raise descriptor
    return _whole(video, frames, descriptor) if plan is None else _small(video, descriptor, plan)


def _whole(video: Video, frames: np.ndarray, descriptor: int) -> Cut:
    with releasing_read_lock():  # much at once, in few calls
        data = _read(video, descriptor, 0, video.size, os.pread)
    return Cut(data, frames.astype(np.int32), len(video.packets), (video.height, video.width))


def _small(video: Video, descriptor: int, plan: _Plan) -> Cut:
    sizes = plan.sizes
    if video.access == "ranged":
        body = [_read(video, descriptor, offset, size, read_cached) for offset, size in plan.runs]
    else:
        with releasing_read_lock():
            body = _demuxed(video, descriptor, plan.keep)
        sizes = np.fromiter(map(len, body), np.int64, len(body))
    head = mp4.write(video.description, video.width, video.height, sizes, plan.shown, plan.sync)
    data, starts = b"".join([head, *body]), len(head) + sizes.cumsum() - sizes
    if video.codec == "hevc":
        data = _break_links(video, data, starts, sizes, plan.sync)
    layout = Layout(video.codec, video.description, starts, sizes, plan.shown, plan.sync)
    return Cut(data, plan.positions, len(sizes), (video.height, video.width), layout)


def _demuxed(video: Video, descriptor: int, keep: np.ndarray) -> list[bytes]:
    """The kept packets, out of one pass over the file in memory."""
    content = _read(video, descriptor, 0, video.size, os.pread)
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
        raise DataError(video.path, "holds fewer packets than when scanned; scan the list again")
    return kept


def _break_links(video: Video, data: bytes, starts: np.ndarray, sizes: np.ndarray, sync: np.ndarray) -> bytes:
    """`data` with a mark on each HEVC group that starts afresh: in open groups the numbers of pictures would run on."""
    prefix = bitstream.length_size(mp4.configuration(video.description, b"hvcC"), "hevc")
    marked = bytearray(data)
    for place in sync.tolist():
        bitstream.break_link(marked, prefix, int(starts[place]), int(starts[place] + sizes[place]))
    return bytes(marked)
