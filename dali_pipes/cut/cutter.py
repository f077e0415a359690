"""Cut a video: read the fewest bytes that a decoder can turn into the wanted frames, and make them a small mp4.

This module decides which packets are needed, reads them, and computes the number of each wanted frame in the cut. It
decodes nothing.

Several videos are cut at once: the arithmetic treats them as one long video, because most of the time for a short one
is the overhead of the NumPy calls. Shapes: P packets of all videos, K of them kept, B videos, T wanted frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dali_pipes.cut.reading import (
    FromStore,
    Opened,
    holding_read_lock,
    noted,
    opened,
    read_range,
    read_ranges,
    releasing_read_lock,
)
from dali_pipes.errors import DataError, attempt
from dali_pipes.storage import fetch
from dali_pipes.storage.cache import CHANGED_NS, CachedVideo
from dali_pipes.storage.fetch import Fetched, Wanted
from dali_pipes.storage.objects import is_url
from dali_pipes.video import bitstream, container, mp4
from dali_pipes.video.packet_table import DISPOSABLE, INVISIBLE, KEYFRAME, Joined, PacketTable, Video, lengths


@dataclass(frozen=True, slots=True)
class Layout:
    """The packets in a cut, for a decoder that takes packets instead of a container."""

    codec: str
    description: bytes  # `Video.description`
    starts: np.ndarray  # [K] offset of each packet in `Cut.data`
    sizes: np.ndarray  # [K] bytes of each packet
    shown: np.ndarray  # [K] the place of its picture among those that the cut shows
    sync: np.ndarray  # [S] places of the keyframes that need nothing before them


@dataclass(frozen=True, slots=True)
class Cut:
    """A small valid mp4 in memory, or the whole file where `Video.access` is `whole`."""

    data: bytes
    positions: np.ndarray
    """[T] int32: for each wanted frame, in the order asked for, its number among the frames that `data` decodes to."""
    packets: int
    """Compressed pictures in `data`: what a decoder has to decode."""
    shape: tuple[int, int]
    """Height and width found by the scan, in pixels."""
    layout: Layout | None = None
    """None for a whole file, whose frames are counted. In a small mp4 frame k starts at k * mp4.DURATION ticks."""


def cut(video: Video, frames: np.ndarray) -> Cut:
    """Cut out `frames`: [T] frame numbers, at least one, in any order, repeats allowed.

    Raises DataError with the file's path if it cannot be read or has changed since the scan.
    """
    (result,) = cut_all([video], [np.asarray(frames)])
    if isinstance(result, DataError):
        raise result
    return result


def cut_all(
    videos: Sequence[Video], frames: Sequence[np.ndarray], fetched: Sequence[FromStore] | None = None
) -> list[Cut | DataError]:
    """Cut several videos; for each, what `cut` returns or raises is returned.

    `fetched` is what was fetched of each video in a store, as `wanted_of_cuts` wants it; without it that is done here.
    """
    if fetched is None:
        fetched = _fetched(videos, frames)
    elif cached := {place: found for place, found in enumerate(fetched) if isinstance(found, CachedVideo)}:
        return _cut_cached(videos, frames, fetched, cached)
    with opened(videos, fetched) as descriptors, holding_read_lock():
        jobs = zip(videos, frames, descriptors, _plans(videos, frames), strict=True)
        return [attempt(_cut, *job) for job in jobs]


def wanted_of_cuts(videos: Sequence[Video], frames: Sequence[np.ndarray]) -> dict[int, Wanted]:
    """Return the ranges that the cuts of those videos need that are in a store, by their places."""
    return {
        place: Wanted(
            video.path,
            video.start_byte,
            video.size,
            video.mtime_ns,
            plan.runs.tolist() if plan and video.access == "ranged" else [(0, video.size)],
        )
        for place, (video, plan) in enumerate(zip(videos, _plans(videos, frames), strict=True))
        if is_url(video.path)
    }


def whole_videos(videos: Sequence[Video]) -> dict[int, Wanted]:
    """Return all bytes of those videos that are in a store, by their places."""
    return {
        place: Wanted(video.path, video.start_byte, video.size, video.mtime_ns, [(0, video.size)])
        for place, video in enumerate(videos)
        if is_url(video.path)
    }


def _cut_cached(
    videos: Sequence[Video],
    frames: Sequence[np.ndarray],
    fetched: Sequence[FromStore],
    cached: Mapping[int, CachedVideo],
) -> list[Cut | DataError]:
    """Cut videos, some of them from files of a cache, or if those cannot be used from the store."""
    here = [
        video.in_file(cached[place].path, CHANGED_NS) if place in cached else video
        for place, video in enumerate(videos)
    ]
    cuts = cut_all(here, frames, [None if place in cached else found for place, found in enumerate(fetched)])
    for place, file in cached.items():
        if isinstance(cuts[place], DataError):
            file.lost()
            cuts[place] = attempt(cut, videos[place], frames[place])
    return cuts


def _fetched(videos: Sequence[Video], frames: Sequence[np.ndarray]) -> list[FromStore]:
    """Fetch what the cuts of videos in stores need; None for videos in files."""
    if not any(is_url(video.path) for video in videos):
        return [None] * len(videos)
    wanted = wanted_of_cuts(videos, frames)
    found = dict(zip(wanted, fetch.finish([*wanted.values()], fetch.begin([*wanted.values()])), strict=True))
    return [found.get(place) for place in range(len(videos))]


def needed(table: PacketTable, frames: np.ndarray) -> np.ndarray:
    """Return the [K] ascending indices of the packets that the wanted frames need.

    These are, for each wanted picture, the packets from its group's keyframe up to the picture, without pictures that
    no other refers to. A leading picture (decoded after its group's keyframe, shown before it) also needs the whole
    group before. Leading pictures that are not wanted are left out: no picture that is kept refers to them, and a
    decoder that starts at their keyframe could not decode them.
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
    """Mark in `keep` the packets that the leading picture `last` of a group may refer to."""
    keyframe = table.groups[group]
    if keyframe not in table.starts:
        before = table.groups[group - 1]
        keep[before:keyframe] |= table.trailing[before:keyframe]
        keep[before] = True
    keep[keyframe:last] |= table.flags[keyframe:last] & DISPOSABLE == 0  # leading pictures refer to each other


class _Plan(NamedTuple):
    """The parts of one cut. Indices are local (see `_plan_together`)."""

    keep: np.ndarray  # [K] indices of its packets
    sizes: np.ndarray  # [K] bytes of each
    shown: np.ndarray  # [K] the place of each one's picture among those that the cut shows
    sync: np.ndarray  # [S] places in `keep` of the keyframes that need nothing before them
    positions: np.ndarray  # [T] int32: `shown` of the wanted frames
    runs: np.ndarray  # [R, 2] (offset, bytes) of each read: packets that are neighbours in the file are read at once


def _plans(videos: Sequence[Video], frames: Sequence[np.ndarray]) -> Iterator[_Plan | None]:
    """Plan each video's cut; None where the video is read whole."""
    small = [pair for pair in zip(videos, frames, strict=True) if pair[0].access != "whole"]
    plans = _plan_together(*zip(*small, strict=True)) if small else iter(())
    return (None if video.access == "whole" else next(plans) for video in videos)


def _plan_together(videos: Sequence[Video], frames: Sequence[np.ndarray]) -> Iterator[_Plan]:
    """Plan the cuts of several videos in one pass over the packets of all. Each video needs at least one wanted frame.

    There are two ways to number packets and their places in a cut. Joined numbers count over all videos, as if the
    videos were one (`Joined`). Local numbers start from 0 in each video. All is computed in joined numbers; `_split`
    turns the results into a part for each video, in local numbers.
    """
    table, counts = Joined(videos), [len(frames_T) for frames_T in frames]
    wanted = np.concatenate(frames) + table.first_frames.repeat(counts)
    keep = needed(table, wanted)
    cut_starts = keep.searchsorted(table.starts)  # [B] the place in `keep` of each video's first packet
    sync = _fresh_starts(table, keep, cut_starts)
    shown = _shown(table, keep)
    shown -= np.minimum.reduceat(shown, cut_starts).repeat(lengths(cut_starts, len(keep)))
    positions = shown[keep.searchsorted(table.decode_position[wanted])].astype(np.int32)
    sizes, offsets = (table.packets[name][keep].astype(np.int64) for name in ("size", "offset"))
    run_starts = _run_starts(offsets, sizes, cut_starts)
    runs = np.stack([offsets[run_starts], np.add.reduceat(sizes, run_starts)], axis=1)
    return map(
        _Plan,
        _split(keep, cut_starts, table.starts),
        _split(sizes, cut_starts),
        _split(shown, cut_starts),
        _split(sync, sync.searchsorted(cut_starts), cut_starts),
        _split(positions, np.cumsum([0, *counts[:-1]])),
        _split(runs, run_starts.searchsorted(cut_starts)),
    )


def _split(joined: np.ndarray, starts: np.ndarray, zeros: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Split an array at `starts`, one part for each video; `zeros` are the joined numbers that are 0 in each video.

    `_split([0, 3, 7, 8, 12], starts=[0, 2], zeros=[0, 5])` gives [0, 3] and [2, 3, 7].
    """
    if zeros is not None:
        joined = joined - zeros.repeat(lengths(starts, len(joined)))
    bounds = [*starts.tolist(), len(joined)]
    return (joined[first:last] for first, last in pairwise(bounds))


def _shown(table: PacketTable, keep: np.ndarray) -> np.ndarray:
    """Return [K] the place of each kept packet's picture among the pictures that are kept and shown."""
    visible = table.flags[keep] & INVISIBLE == 0
    by_order = table.order[keep].argsort()
    shown = np.empty(len(keep), np.int64)
    shown[by_order] = visible[by_order].cumsum() - visible[by_order]
    return shown


def _fresh_starts(table: PacketTable, keep: np.ndarray, cut_starts: np.ndarray) -> np.ndarray:
    """Return [S] the places in `keep` of keyframes that need nothing before them.

    These are the keyframes without kept leading pictures, and the first keyframe of each video.
    """
    sync = (table.flags[keep] & KEYFRAME).nonzero()[0]
    fresh = np.add.reduceat(table.leading[keep], sync, dtype=np.int64) == 0
    fresh[sync.searchsorted(cut_starts)] = True
    return sync[fresh]


def _run_starts(offsets: np.ndarray, sizes: np.ndarray, cut_starts: np.ndarray) -> np.ndarray:
    """Return [R] the places of packets that do not follow the one before them directly in the same file."""
    apart = np.ones(len(offsets), bool)
    apart[1:] = offsets[1:] != offsets[:-1] + sizes[:-1]
    apart[cut_starts] = True
    return apart.nonzero()[0]


def _cut(video: Video, frames: np.ndarray, descriptor: Opened, plan: _Plan | None) -> Cut:
    """Read the small mp4 of a plan; without a plan, the whole file."""
    if isinstance(descriptor, DataError):
        raise descriptor
    with noted(video.path):
        return _whole(video, frames, descriptor) if plan is None else _small(video, descriptor, plan)


def _whole(video: Video, frames: np.ndarray, descriptor: int | Fetched) -> Cut:
    with releasing_read_lock():  # a few long calls: other threads can work meanwhile
        data = read_range(video, descriptor, 0, video.size, os.pread)
    return Cut(bytes(data), frames.astype(np.int32), len(video.packets), (video.height, video.width))


def _small(video: Video, descriptor: int | Fetched, plan: _Plan) -> Cut:
    sizes = plan.sizes
    if video.access == "ranged":
        body = read_ranges(video, descriptor, plan.runs.tolist())
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


def _demuxed(video: Video, descriptor: int | Fetched, keep: np.ndarray) -> list[bytes]:
    """Read the file into memory and demux the kept packets from it."""
    content = bytes(read_range(video, descriptor, 0, video.size, os.pread))
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
    """Mark each HEVC group that needs nothing before it as such, see `bitstream.break_link`."""
    prefix = bitstream.length_size(mp4.configuration(video.description, b"hvcC"), "hevc")
    marked = bytearray(data)
    for place in sync.tolist():
        try:
            bitstream.break_link(marked, prefix, int(starts[place]), int(starts[place] + sizes[place]))
        except ValueError as error:
            raise DataError(video.path, f"a packet is damaged: {error}") from error
    return bytes(marked)
