"""One video as the scan saw it: everything a cut needs, and nothing that needs the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

PACKET = np.dtype([("offset", "<u8"), ("size", "<u4"), ("order", "<i4"), ("flags", "u1")])
"""One compressed packet. `offset`, `size`: its bytes in the file (the offset says nothing unless access is `ranged`);
`order`: its picture's place in presentation order among all packets; `flags`: the bits below."""

KEYFRAME = 1  # decoding can start here
DISPOSABLE = 2  # no other picture refers to this one
HIDDEN = 4  # decoded but never shown (an edit list leaves it out), so it has no frame number
INVISIBLE = 8  # decodes to no frame at all (references of VP8 and VP9 that are not shown); also HIDDEN

Access = Literal["ranged", "demux", "whole", "frames"]
"""How a cut is made. `ranged`: packets are byte ranges of the file. `demux`: packets are found by demuxing the file in
memory (transport streams). `whole`: the file cannot be cut safely, so a cut is the file itself. `frames`: there is
nothing to cut, the path is a folder with a picture a frame."""


class PacketTable:
    """What follows from the packets of a video; or of several, laid end to end, which to this arithmetic are one long
    video: each starts with a keyframe, so nothing refers across the seams.
    """

    packets: np.ndarray
    """PACKET records in decode order."""
    starts: np.ndarray
    """[B] int64: the index of each video's first packet."""

    @cached_property
    def offsets(self) -> np.ndarray:
        """[P] int64: where each packet starts in the file."""
        return self.packets["offset"].astype(np.int64)

    @cached_property
    def sizes(self) -> np.ndarray:
        """[P] int64: bytes of each packet."""
        return self.packets["size"].astype(np.int64)

    @cached_property
    def order(self) -> np.ndarray:
        """[P] int32: the place of each packet's picture in presentation order."""
        return self.packets["order"].copy()

    @cached_property
    def flags(self) -> np.ndarray:
        """[P] uint8: of each packet."""
        return self.packets["flags"].copy()

    @cached_property
    def reordered(self) -> bool:
        """Whether pictures are decoded in another order than they are shown in (B-frames)."""
        return bool((self.order[1:] < self.order[:-1]).any())

    @cached_property
    def decode_position(self) -> np.ndarray:
        """[frames] int64: for each frame in presentation order, the index of its packet."""
        by_order = self.order.argsort(kind="stable") if self.reordered else np.arange(len(self.order))
        return by_order[self.flags[by_order] & HIDDEN == 0]

    @cached_property
    def groups(self) -> np.ndarray:
        """[G] int64: the indices of the keyframe packets, ascending; the first is 0."""
        return (self.flags & KEYFRAME).nonzero()[0]

    @cached_property
    def leading(self) -> np.ndarray:
        """[P] bool: the picture is shown before the keyframe of its group, so it needs the group before."""
        shown_from = self.order[self.groups]
        return self.order < shown_from.repeat(np.diff(self.groups, append=len(self.order)))

    @cached_property
    def trailing(self) -> np.ndarray:
        """[P] bool: later pictures of its group may refer to it."""
        return (self.flags & DISPOSABLE == 0) & ~self.leading


@dataclass(frozen=True)
class Video(PacketTable):
    """A readable video. `packets` is in decode order (PACKET records) and may be a view of a memory-mapped file.

    A folder of pictures (`frames`) has no packets; its size and time are the folder's own.
    """

    path: str
    width: int  # pixels, as coded for display, before any rotation
    height: int
    frames: int  # shown frames: what a full decode gives
    fps: float
    codec: str  # FFmpeg's name: h264, hevc, vp9, mpeg4, ...
    access: Access
    description: bytes
    """The mp4 `stsd` box; empty where access is `whole` because mp4 cannot hold the codec. For `frames` the pattern of
    the pictures' names."""
    size: int  # bytes of the file when scanned
    mtime_ns: int  # its modification time then
    packets: np.ndarray
    starts = np.zeros(1, np.int64)


class Joined(PacketTable):
    """The tables of several videos, end to end: packets and frames number on from one video to the next."""

    def __init__(self, videos: Sequence[Video]):
        counts = [len(video.packets) for video in videos]
        self.packets = np.frombuffer(bytearray().join([video.packets for video in videos]), PACKET)
        self.starts = np.cumsum([0, *counts[:-1]])
        self.first_frames = np.cumsum([0, *(video.frames for video in videos[:-1])])
        """[B] int64: the number that each video's first frame has here."""
        self.packets["order"] += self.starts.astype(np.int32).repeat(counts)


Check = Literal["demux", "ends", "full"]
