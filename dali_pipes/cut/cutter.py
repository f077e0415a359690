"""Cut a video: read only the packets that the wanted frames need, and put them into a small mp4.

`plan.py` chooses the packets; this module reads them from a file or a store. Nothing is decoded. Shapes: K packets in a
cut, T wanted frames.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dali_pipes.cut.plan import Plan, plan_each
from dali_pipes.cut.reading import (
    FromStore,
    Opened,
    holding_read_lock,
    mark_in_progress,
    opened,
    read_range,
    read_ranges,
    releasing_read_lock,
)
from dali_pipes.errors import DataError, attempt
from dali_pipes.storage import fetch
from dali_pipes.storage.cache import CHANGED_NS, CachedVideo
from dali_pipes.storage.fetch import Fetched, RangeRequest
from dali_pipes.storage.objects import is_url
from dali_pipes.video import bitstream, container, mp4
from dali_pipes.video.packet_table import Video


@dataclass(frozen=True, slots=True)
class Layout:
    """The packets of a cut, for a decoder that is fed packets instead of a container."""

    codec: str
    description: bytes  # `Video.description`
    starts: np.ndarray  # [K] offset of each packet in `Cut.data`
    sizes: np.ndarray  # [K] bytes of each packet
    shown: np.ndarray  # [K] index of the packet's frame in display order
    sync: np.ndarray  # [S] indices of keyframes at which decoding can start


@dataclass(frozen=True, slots=True)
class Cut:
    """A small valid mp4 in memory; the whole file if `Video.access` is `whole`."""

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
    """Cut several videos; return the Cut or the DataError of each.

    `fetched` has the ranges of videos in a store, as `ranges_of_cuts` asks for them. Without it, they are fetched here.
    """
    if fetched is None:
        fetched = _fetched(videos, frames)
    elif cached := {place: found for place, found in enumerate(fetched) if isinstance(found, CachedVideo)}:
        return _cut_cached(videos, frames, fetched, cached)
    with opened(videos, fetched) as descriptors, holding_read_lock():
        jobs = zip(videos, frames, descriptors, plan_each(videos, frames), strict=True)
        return [attempt(_cut, *job) for job in jobs]


def ranges_of_cuts(videos: Sequence[Video], frames: Sequence[np.ndarray]) -> dict[int, RangeRequest]:
    """Return the byte ranges that the cuts of videos in a store need, by the index of the video."""
    return {
        place: RangeRequest(
            video.path,
            video.start_byte,
            video.size,
            video.mtime_ns,
            plan.runs.tolist() if plan and video.access == "ranged" else [(0, video.size)],
        )
        for place, (video, plan) in enumerate(zip(videos, plan_each(videos, frames), strict=True))
        if is_url(video.path)
    }


def ranges_of_whole_videos(videos: Sequence[Video]) -> dict[int, RangeRequest]:
    """Return the range of the whole file for videos in a store, by the index of the video."""
    return {
        place: RangeRequest(video.path, video.start_byte, video.size, video.mtime_ns, [(0, video.size)])
        for place, video in enumerate(videos)
        if is_url(video.path)
    }


def _cut_cached(
    videos: Sequence[Video],
    frames: Sequence[np.ndarray],
    fetched: Sequence[FromStore],
    cached: Mapping[int, CachedVideo],
) -> list[Cut | DataError]:
    """Cut videos, some of them from cached files; fall back to the store if a cached file cannot be used."""
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
    """Fetch the ranges that the cuts of videos in stores need; None for videos in files."""
    if not any(is_url(video.path) for video in videos):
        return [None] * len(videos)
    wanted = ranges_of_cuts(videos, frames)
    found = dict(zip(wanted, fetch.finish([*wanted.values()], fetch.begin([*wanted.values()])), strict=True))
    return [found.get(place) for place in range(len(videos))]


def _cut(video: Video, frames: np.ndarray, descriptor: Opened, plan: Plan | None) -> Cut:
    """Make the small mp4 of a plan; without a plan, read the whole file."""
    if isinstance(descriptor, DataError):
        raise descriptor
    with mark_in_progress(video.path):
        return _whole(video, frames, descriptor) if plan is None else _small(video, descriptor, plan)


def _whole(video: Video, frames: np.ndarray, descriptor: int | Fetched) -> Cut:
    with releasing_read_lock():  # a few long system calls, so other threads may run
        data = read_range(video, descriptor, 0, video.size, os.pread)
    return Cut(bytes(data), frames.astype(np.int32), len(video.packets), (video.height, video.width))


def _small(video: Video, descriptor: int | Fetched, plan: Plan) -> Cut:
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
        raise DataError(video.path, "contains fewer packets than when scanned; scan the list again")
    return kept


def _break_links(video: Video, data: bytes, starts: np.ndarray, sizes: np.ndarray, sync: np.ndarray) -> bytes:
    """Mark HEVC keyframes at which decoding can start as broken links, see `bitstream.break_link`."""
    prefix = bitstream.length_size(mp4.configuration(video.description, b"hvcC"), "hevc")
    marked = bytearray(data)
    for place in sync.tolist():
        try:
            bitstream.break_link(marked, prefix, int(starts[place]), int(starts[place] + sizes[place]))
        except ValueError as error:
            raise DataError(video.path, f"a packet is damaged: {error}") from error
    return bytes(marked)
