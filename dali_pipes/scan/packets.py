"""Collect the packets of a stream by demuxing it: their positions in the file and the content of their headers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import av
import numpy as np
from av.video.stream import VideoStream

from dali_pipes.cut import decode
from dali_pipes.storage.sources import ByteSource
from dali_pipes.video import bitstream
from dali_pipes.video.bitstream import Picture
from dali_pipes.video.packet_table import DISPOSABLE, HIDDEN, INVISIBLE, KEYFRAME, PACKET, Video

_HEADER_BYTES = 64  # a packet's bytes are searched within this distance after the start of its block (Matroska, Ogg)
_WINDOW = 1 << 16  # bytes per read
_AT_ONCE = 16  # packets in memory at once
_INTRA = ("mjpeg", "prores", "dnxhd")  # intra-only codecs, regardless of the container's flags


@dataclass
class Packets:
    """The P packets of one stream, in decode order."""

    offset: list[int] = field(default_factory=list)  # -1 if the packet is not contiguous in the file
    size: list[int] = field(default_factory=list)
    pts: list[int | None] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    understood: bool = True  # the headers of every packet were read
    doubts: list[str] = field(default_factory=list)  # reasons why cuts might not decode to the frames of a full decode

    @cached_property
    def columns(self) -> Picture:
        """Return each field of `pictures` as a tuple with one value per packet."""
        return Picture._make(zip(*self.pictures, strict=True))


def collect(codec: str, stream: VideoStream, packets: Iterable[av.Packet], source: ByteSource) -> Packets:
    """Read the headers of every packet, and find its position in the file."""
    found = Packets()
    read, find = _reader(codec, stream, found), _FileWindow(source).find
    intra = codec in _INTRA
    offset, size, pts, flags, pictures = found.offset, found.size, found.pts, found.flags, found.pictures
    for packet in _in_batches(packets):
        if not packet.size:  # empty packets are not decoded, see `container.packets`; the last one is the flush
            found.doubts += [] if packet.dts is None else [f"packet {len(size)} is empty"]
            continue
        data = bytes(packet)
        try:
            picture = read(data)
        except (ValueError, IndexError) as error:
            found.doubts.append(f"packet {len(size)} is malformed ({error})")
            found.understood, picture = False, Picture()
        offset.append(find(packet.pos, data))
        size.append(len(data))
        pts.append(packet.pts)
        flags.append(_flags(packet, picture, intra))
        pictures.append(picture)
        if packet.is_corrupt:
            found.doubts.append(f"packet {len(size) - 1} is marked as damaged")
    return found


def _in_batches(packets: Iterable[av.Packet]) -> Iterator[av.Packet]:
    """Yield packets that are demuxed in batches, so that FFmpeg and Python do not evict each other from the CPU caches
    for every packet.
    """
    packets = iter(packets)
    while batch := list(islice(packets, _AT_ONCE)):
        yield from batch


def table(found: Packets) -> np.ndarray:
    """Return [P] PACKET records; append contradictions in the order of pictures to `found.doubts`.

    A decoder outputs pictures in the order given by their headers. Timestamps only count if the headers were not
    understood.
    """
    packets = np.zeros(len(found.size), PACKET)
    packets["size"] = found.size
    packets["offset"] = found.offset if min(found.offset) >= 0 else 0
    if not found.flags[0] & KEYFRAME:
        found.flags[0] |= KEYFRAME  # there is no keyframe before it
        found.doubts.append("it does not start with a keyframe")
    packets["flags"] = _with_disposable(found)
    timed = None not in found.pts and len(set(found.pts)) == len(found.pts)
    order = found.columns.order if found.understood else found.pts if timed else range(len(packets))
    by_order = np.argsort(order, kind="stable")
    packets["order"][by_order] = np.arange(len(packets))
    if not timed:
        found.doubts.append("its packets have missing or repeated times")
    else:
        pts_P = np.array(found.pts)[by_order][packets["flags"][by_order] & INVISIBLE == 0]
        if (pts_P[1:] < pts_P[:-1]).any():
            found.doubts.append("its times contradict the order of its pictures")
    return packets


def doubts(video: Video, guessed_times: bool, found: Packets) -> list[str]:
    """Return reasons why cuts of this stream might not decode to the frames of a full decode; mostly none.

    `guessed_times`: display order may differ from decode order, and the container does not store it.
    """
    packets, size = video.packets, (video.width, video.height)
    repeats = video.codec in ("vp9", "av1")
    groups = [place for place, flags in enumerate(found.flags) if flags & KEYFRAME]
    first_group = packets["order"][: groups[1] if len(groups) > 1 else None]
    of_groups = [found.columns.parameters[group] for group in groups]
    elsewhere = sum(map(bool, found.columns.parameters)) > sum(map(bool, of_groups))
    reasons = {
        "its codec is not one whose pictures are understood here": not found.understood,
        "its first group has leading pictures": first_group.min() < first_group[0],
        "its times of presentation are guesses": guessed_times,
        "it carries several parameter sets": len({*of_groups}) > 1 or elsewhere,
        "it leaves out packets that may show an older picture": repeats and video.frames < len(packets),
        "it has packets with more than one picture": max(found.columns.pictures) > 1,
        "its pictures have another size than the container says": not {*found.columns.size} <= {None, size},
    }
    return [
        *found.doubts,
        *sorted({*found.columns.doubt} - {""}),
        *(reason for reason, holds in reasons.items() if holds),
    ]


def _reader(codec: str, stream: VideoStream, found: Packets) -> Callable[[bytes], Picture]:
    """Return the function that reads the headers of packets; without one, record that in `found`."""
    context = stream.codec_context
    try:
        reader = bitstream.make_reader(codec, context.extradata or b"", context.codec_tag)
    except (ValueError, IndexError) as error:
        found.doubts.append(f"its extradata is malformed ({error})")
        reader = None
    if reader and not decode.accepts(context.name, context.extradata):
        found.doubts.append("its extradata is damaged")
    found.understood = reader is not None
    return reader.read if reader else lambda data: Picture()


class _FileWindow:
    """A window of a file with which packets are compared, mostly without a system call."""

    def __init__(self, source: ByteSource):
        self._source = source
        self._start, self._content = 0, b""

    def find(self, position: int | None, data: bytes) -> int:
        """Return the offset of these bytes in the file, at `position` or after the block header there; -1 if they are
        not there (transport streams, stripped headers).
        """
        if position is None:
            return -1
        at = position - self._start
        if not 0 <= at <= len(self._content) - len(data) - _HEADER_BYTES:
            self._start, at = position, 0
            self._content = self._source.read(position, max(_WINDOW, len(data) + _HEADER_BYTES))
        if self._content.startswith(data, at):
            return position
        found = self._content.find(data, at, at + len(data) + _HEADER_BYTES)
        return self._start + found if found >= 0 else -1


def _flags(packet: av.Packet, picture: Picture, intra: bool) -> int:
    flags = 0 if picture.pictures else HIDDEN | INVISIBLE
    if intra or (picture.resets and packet.is_keyframe):
        flags |= KEYFRAME
    if packet.is_disposable:
        flags |= DISPOSABLE
    if packet.is_discard:
        flags |= HIDDEN
    return flags


def _with_disposable(found: Packets) -> list[int]:
    """Return the flags, with DISPOSABLE for non-reference pictures of the highest temporal layer."""
    top, columns = max(found.columns.layer), found.columns
    return [
        flags if referenced or layer < top else flags | DISPOSABLE
        for flags, referenced, layer in zip(found.flags, columns.referenced, columns.layer, strict=True)
    ]
