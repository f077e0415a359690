"""`Video`, the result of scanning one file: its packet table, and everything else that a cut needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

PACKET = np.dtype([("offset", "<u8"), ("size", "<u4"), ("order", "<i4"), ("flags", "u1")])
"""One compressed packet. `offset`, `size`: its bytes in the file (the offset has a meaning only if access is `ranged`);
`order`: its picture's place in presentation order among all packets; `flags`: the bits below."""

KEYFRAME = 1  # decoding can start here
DISPOSABLE = 2  # no other picture refers to this one
HIDDEN = 4  # decoded but never shown, for example because of an edit list, so it has no frame number
INVISIBLE = 8  # decodes to no frame (hidden reference frames of VP8 and VP9); such packets are HIDDEN as well

Access = Literal["ranged", "demux", "whole", "frames"]
"""Way to make a cut. `ranged`: packets are byte ranges of the file. `demux`: packets are found by demuxing the file in
memory (transport streams). `whole`: the file cannot be cut safely, so a cut is the file itself. `frames`: there is
nothing to cut, the path is a folder with a picture a frame."""


def lengths(starts: np.ndarray, end: int) -> np.ndarray:
    """Return the length of each part of an array that is split at `starts` and ends at `end`.

    Equals `np.diff(starts, append=end)`, which is slower for the few videos of a part.
    """
    found = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=found[:-1])
    found[-1:] = end - starts[-1:]
    return found


class PacketTable:
    """Arrays computed from the packets of one video, or of several concatenated ones.

    Concatenated videos can be treated as one long video: each starts with a keyframe, so no packet refers to another
    video.
    """

    packets: np.ndarray
    """PACKET records in decode order."""
    starts: np.ndarray
    """The index of each video's first packet: [B] int64."""

    @cached_property
    def offsets(self) -> np.ndarray:
        """Return the offset of each packet in the file: [P] int64."""
        return self.packets["offset"].astype(np.int64)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Return the bytes of each packet: [P] int64."""
        return self.packets["size"].astype(np.int64)

    @cached_property
    def order(self) -> np.ndarray:
        """Return the index of each packet's picture in display order: [P] int32."""
        return self.packets["order"].copy()

    @cached_property
    def flags(self) -> np.ndarray:
        """Return the flags of each packet: [P] uint8."""
        return self.packets["flags"].copy()

    @cached_property
    def reordered(self) -> bool:
        """Return True if decode order differs from display order (B-frames)."""
        return bool((self.order[1:] < self.order[:-1]).any())

    @cached_property
    def decode_position(self) -> np.ndarray:
        """Return the packet index of each frame, in display order: [frames] int64."""
        by_order = self.order.argsort(kind="stable") if self.reordered else np.arange(len(self.order))
        return by_order[self.flags[by_order] & HIDDEN == 0]

    @cached_property
    def groups(self) -> np.ndarray:
        """Return the indices of the keyframe packets, ascending, the first is 0: [G] int64."""
        return (self.flags & KEYFRAME).nonzero()[0]

    @cached_property
    def leading(self) -> np.ndarray:
        """Return True for pictures displayed before the keyframe of their group, which need the previous group: [P]
        bool.
        """
        shown_from = self.order[self.groups]
        return self.order < shown_from.repeat(lengths(self.groups, len(self.order)))

    @cached_property
    def trailing(self) -> np.ndarray:
        """Return True for pictures to which later pictures of their group may refer: [P] bool."""
        return (self.flags & DISPOSABLE == 0) & ~self.leading


@dataclass(frozen=True)
class Video(PacketTable):
    """A readable video. `packets` is in decode order (PACKET records) and may be a view of a memory-mapped file.

    A folder of pictures (access `frames`) has no packets; its size and time are those of the folder.
    """

    path: str
    width: int  # pixels after cropping, before rotation
    height: int
    frames: int  # number of frames of a full decode
    fps: float
    codec: str  # FFmpeg's name: h264, hevc, vp9, mpeg4, ...
    access: Access
    description: bytes
    """The mp4 `stsd` box; empty if access is `whole` because mp4 cannot hold the codec. If access is `frames`, the
    pattern of the pictures' names."""
    size: int  # bytes of the video at the scan
    mtime_ns: int  # `ByteSource.stamp` at the scan; the modification time of a file
    packets: np.ndarray
    orientation: int = 0
    """Orientation of the stored pictures, 0 to 7: see `orientation.py`."""
    start_byte: int = 0
    """Place in the tar shard that holds the video; 0: the video is a file for itself. Offsets of packets start here."""
    tracks: int = 1
    """Video tracks in the file, of which FFmpeg's best one is read; 255 if there are more."""
    starts = np.zeros(1, np.int64)

    def in_file(self, path: str, mtime_ns: int) -> Video:
        """Return the same video in a file of its own. Faster than `dataclasses.replace`, and called once per clip."""
        moved = object.__new__(Video)
        moved.__dict__.update(self.__dict__, path=path, start_byte=0, mtime_ns=mtime_ns)
        return moved


class Joined(PacketTable):
    """The concatenated tables of several videos; packets and frames are numbered over all of them."""

    def __init__(self, videos: Sequence[Video]):
        counts = [len(video.packets) for video in videos]
        self.packets = np.frombuffer(bytearray().join([video.packets for video in videos]), PACKET)
        self.starts = np.cumsum([0, *counts[:-1]])
        self.first_frames = np.cumsum([0, *(video.frames for video in videos[:-1])])
        """The number of each video's first frame in this table: [B] int64."""
        self.packets["order"] += self.starts.astype(np.int32).repeat(counts)
