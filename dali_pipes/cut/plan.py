"""Plan cuts: which packets of a video are needed for the wanted frames, and where they are in the file and in the cut.

Several videos are planned at once, as if they were one long video, because NumPy's call overhead dominates for a single
short video. Nothing is read here. Shapes: P packets of all videos, K kept packets, B videos, T wanted frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dali_pipes.video.packet_table import DISPOSABLE, INVISIBLE, KEYFRAME, Joined, PacketTable, Video, lengths


class Plan(NamedTuple):
    """The parts of one cut. Indices are local (see `plan_together`)."""

    keep: np.ndarray  # [K] indices of its packets
    sizes: np.ndarray  # [K] bytes of each packet
    shown: np.ndarray  # [K] index of each packet's frame in display order
    sync: np.ndarray  # [S] indices into `keep` of keyframes at which decoding can start
    positions: np.ndarray  # [T] int32: `shown` of the wanted frames
    runs: np.ndarray  # [R, 2] (offset, bytes) of each read: adjacent packets are read in one call


def plan_each(videos: Sequence[Video], frames: Sequence[np.ndarray]) -> Iterator[Plan | None]:
    """Plan each video's cut; None if the whole video is read."""
    small = [pair for pair in zip(videos, frames, strict=True) if pair[0].access != "whole"]
    plans = plan_together(*zip(*small, strict=True)) if small else iter(())
    return (None if video.access == "whole" else next(plans) for video in videos)


def plan_together(videos: Sequence[Video], frames: Sequence[np.ndarray]) -> Iterator[Plan]:
    """Plan the cuts of several videos in one pass over the packets of all. Each video needs at least one wanted frame.

    There are two ways to number packets and their places in a cut. Joined numbers count over all videos, as if the
    videos were one (`Joined`). Local numbers start from 0 in each video. All is computed in joined numbers; `_split`
    turns the results into a part for each video, in local numbers.
    """
    table, counts = Joined(videos), [len(frames_T) for frames_T in frames]
    wanted = np.concatenate(frames) + table.first_frames.repeat(counts)
    keep = needed(table, wanted)
    cut_starts = keep.searchsorted(table.starts)  # [B] index into `keep` of each video's first packet
    sync = _fresh_starts(table, keep, cut_starts)
    shown = _shown(table, keep)
    shown -= np.minimum.reduceat(shown, cut_starts).repeat(lengths(cut_starts, len(keep)))
    positions = shown[keep.searchsorted(table.decode_position[wanted])].astype(np.int32)
    sizes, offsets = (table.packets[name][keep].astype(np.int64) for name in ("size", "offset"))
    run_starts = _run_starts(offsets, sizes, cut_starts)
    runs = np.stack([offsets[run_starts], np.add.reduceat(sizes, run_starts)], axis=1)
    return map(
        Plan,
        _split(keep, cut_starts, table.starts),
        _split(sizes, cut_starts),
        _split(shown, cut_starts),
        _split(sync, sync.searchsorted(cut_starts), cut_starts),
        _split(positions, np.cumsum([0, *counts[:-1]])),
        _split(runs, run_starts.searchsorted(cut_starts)),
    )


def needed(table: PacketTable, frames: np.ndarray) -> np.ndarray:
    """Return [K] indices, ascending, of the packets that the wanted frames need.

    For each wanted frame, these are the packets from its group's keyframe up to the frame, without non-reference
    frames. A leading frame (decoded after its group's keyframe, displayed before it) also needs the whole previous
    group. Leading frames that are not wanted are dropped: no kept frame refers to them, and a decoder that starts at
    their keyframe could not decode them.
    """
    wanted = table.decode_position[np.asarray(frames)]
    group = table.groups.searchsorted(wanted, "right") - 1
    start, count = table.groups[group], len(table.packets)
    # For each packet, the number of wanted frames of its group that follow it.
    wanted_ahead = (np.bincount(start, minlength=count) - np.bincount(wanted, minlength=count)).cumsum()
    keep = (wanted_ahead > 0) & table.trailing
    for place in table.leading[wanted].nonzero()[0].tolist():
        _keep_for_leading(table, keep, group[place], wanted[place])
    keep[start] = keep[wanted] = True
    return keep.nonzero()[0]


def _keep_for_leading(table: PacketTable, keep: np.ndarray, group: int, last: int) -> None:
    """Mark in `keep` the packets that the leading frame `last` of a group may refer to."""
    keyframe = table.groups[group]
    if keyframe not in table.starts:
        before = table.groups[group - 1]
        keep[before:keyframe] |= table.trailing[before:keyframe]
        keep[before] = True
    keep[keyframe:last] |= table.flags[keyframe:last] & DISPOSABLE == 0  # leading frames refer to each other


def _split(joined: np.ndarray, starts: np.ndarray, zeros: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Split an array at `starts`, one part for each video; `zeros` are the joined numbers that are 0 in each video.

    `_split([0, 3, 7, 8, 12], starts=[0, 2], zeros=[0, 5])` gives [0, 3] and [2, 3, 7].
    """
    if zeros is not None:
        joined = joined - zeros.repeat(lengths(starts, len(joined)))
    bounds = [*starts.tolist(), len(joined)]
    return (joined[first:last] for first, last in pairwise(bounds))


def _shown(table: PacketTable, keep: np.ndarray) -> np.ndarray:
    """Return [K], the index of each kept packet's frame in display order."""
    visible = table.flags[keep] & INVISIBLE == 0
    by_order = table.order[keep].argsort()
    shown = np.empty(len(keep), np.int64)
    shown[by_order] = visible[by_order].cumsum() - visible[by_order]
    return shown


def _fresh_starts(table: PacketTable, keep: np.ndarray, cut_starts: np.ndarray) -> np.ndarray:
    """Return [S], the indices into `keep` of keyframes at which decoding can start.

    These are the keyframes without kept leading frames, and the first keyframe of each video.
    """
    sync = (table.flags[keep] & KEYFRAME).nonzero()[0]
    fresh = np.add.reduceat(table.leading[keep], sync, dtype=np.int64) == 0
    fresh[sync.searchsorted(cut_starts)] = True
    return sync[fresh]


def _run_starts(offsets: np.ndarray, sizes: np.ndarray, cut_starts: np.ndarray) -> np.ndarray:
    """Return [R], the indices of packets that do not directly follow the previous packet in the same file."""
    apart = np.ones(len(offsets), bool)
    apart[1:] = offsets[1:] != offsets[:-1] + sizes[:-1]
    apart[cut_starts] = True
    return apart.nonzero()[0]
