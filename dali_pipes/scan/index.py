"""Find the packets of an mp4 or mov file from its index (the sample tables) alone, for the weaker check `index`.

The index has the positions and times of packets, but not their content. So this supports only H.264 and HEVC, which
have one picture per packet, and only files with an unambiguous index. Two packets are read: the first, and the keyframe
in the middle, which shows if decoding can start at the keyframes of the index.
"""

from __future__ import annotations

import io
from typing import BinaryIO, NamedTuple

import numpy as np
from av.video.stream import VideoStream

from dali_pipes.storage.remote import FIRST
from dali_pipes.storage.sources import ByteSource, SourceFile
from dali_pipes.video import bitstream, mp4
from dali_pipes.video.bitstream import Picture
from dali_pipes.video.packet_table import KEYFRAME, PACKET
from dali_pipes.video.sample_table import Samples, Unsettled, samples

_HEADER = 16  # bytes of a box header
_BEHIND = 32 << 10  # bytes after the index that FFmpeg sees: in a file with the index in front, packets begin there


class Excerpt:
    """A source of which FFmpeg sees only the beginning, the index and the headers of other boxes, all in memory.

    Otherwise FFmpeg would read a megabyte or more to guess what the index says.
    """

    def __init__(self, source: ByteSource):
        """Read the excerpt. Raises Unsettled if the source is no mp4 or mov file, or is fragmented."""
        self.path, self.start, self.size, self.stamp = source.path, source.start, source.size, source.stamp
        self._source = source
        if source.read(4, 4) not in mp4.STARTS:
            raise Unsettled("it is not an mp4 or mov file")
        self._blocks = _Blocks(self.path, self.size, [(0, source.read(0, FIRST))])
        for kind, _, start, end in mp4.walk_source(source):
            if kind == b"moof":
                raise Unsettled("it is fragmented")
            count = end - start + _BEHIND if kind == b"moov" else _HEADER
            self._blocks.blocks.insert(0, (start, source.read(start, count)))

    def read(self, offset: int, size: int) -> bytes:
        content = self._blocks.read(offset, size)
        return content if len(content) == size else self._source.read(offset, size)

    def file_object(self) -> BinaryIO:
        return io.BufferedReader(SourceFile(self._blocks), FIRST)


class _Blocks(NamedTuple):
    """Some blocks of a source; a read ends at the end of a block."""

    path: str
    size: int  # of the source
    blocks: list[tuple[int, bytes]]  # (offset, content)

    def read(self, offset: int, size: int) -> bytes:
        found = (
            content[offset - start : offset - start + size]
            for start, content in self.blocks
            if start <= offset < start + len(content)
        )
        return max(found, key=len, default=b"")


def packets_of_index(
    source: ByteSource, moov: bytes, codec: str, description: bytes, stream: VideoStream
) -> np.ndarray:
    """Return [P] PACKET records of a stream. Raises Unsettled with the reason if the index is not sufficient.

    No picture is marked as a non-reference picture, so cuts may be larger than those of a scan of the packets.
    """
    if codec not in ("h264", "hevc"):
        raise Unsettled(f"packets of {codec} may hold more or fewer pictures than one")
    extradata = stream.codec_context.extradata or b""
    prefix = bitstream.length_size(extradata, codec)
    if not description or not prefix:
        raise Unsettled("its description of the packets is of an unusual form")
    found = samples(moov, stream.id)
    if (found.offset + found.size).max() > source.size or found.offset.min() < 0:
        raise Unsettled("its index names bytes that it does not have")
    if found.size.min() <= prefix + 1:
        raise Unsettled("it has packets that are too small for a picture")
    _refuse_doubtful_order(codec, description, extradata, found.timed)
    order = _order(codec, found)
    _check_keyframes(source, found, codec, stream)
    packets = np.zeros(len(found.size), PACKET)
    packets["offset"], packets["size"], packets["order"] = found.offset, found.size, order
    packets["flags"] = found.sync * KEYFRAME
    return packets


def _refuse_doubtful_order(codec: str, description: bytes, extradata: bytes, timed: bool) -> None:
    """Raise Unsettled if timestamps may not give the order of pictures."""
    try:
        if bitstream.picture_format(codec, description).fields:
            raise Unsettled("its packets may hold one field or two")
        if not timed and bitstream.may_reorder(codec, extradata):
            raise Unsettled("it has no times of presentation, and its pictures may be shown in another order")
    except (ValueError, IndexError) as error:
        raise Unsettled("its parameter sets are not understood") from error


def _order(codec: str, found: Samples) -> np.ndarray:
    """Return [P], the index of each picture in display order."""
    by_time = found.time.argsort(kind="stable")
    if (np.diff(found.time[by_time]) == 0).any():
        raise Unsettled("several of its pictures have one time")
    order = np.empty(len(by_time), np.int64)
    order[by_time] = np.arange(len(by_time))
    groups = found.sync.nonzero()[0]
    if not len(groups) or groups[0]:
        raise Unsettled("it does not start with a keyframe")
    leading = np.minimum.reduceat(order, groups) < order[groups]
    if leading[0] or (codec == "h264" and leading.any()):
        raise Unsettled("pictures of a group are shown before its keyframe")
    return order


def _check_keyframes(source: ByteSource, found: Samples, codec: str, stream: VideoStream) -> None:
    """Check the headers of the first keyframe and of the keyframe in the middle."""
    groups = found.sync.nonzero()[0]
    places = [(int(found.offset[at]), int(found.size[at])) for at in {0, int(groups[len(groups) // 2])}]
    read = [_read(codec, stream, source.read(*place)) for place in sorted(places)]
    if not all(picture.resets and picture.pictures == 1 for picture in read):
        raise Unsettled("its keyframes may need pictures before them")
    if read[0].parameters != read[-1].parameters:
        raise Unsettled("it carries several parameter sets")
    if doubt := read[0].doubt:
        raise Unsettled(doubt)


def _read(codec: str, stream: VideoStream, packet: bytes) -> Picture:
    context = stream.codec_context
    try:
        return bitstream.make_reader(codec, context.extradata or b"", context.codec_tag).read(packet)
    except (ValueError, IndexError) as error:
        raise Unsettled("its keyframes are malformed") from error
