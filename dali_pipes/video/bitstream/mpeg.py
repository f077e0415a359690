"""`Mpeg4` (part 2), `Mpeg2` (and 1), `Mjpeg` and `FixedHeader`: parse packets of older and of intra-only codecs."""

from __future__ import annotations

import re

from dali_pipes.video.bitstream.bits import Bits
from dali_pipes.video.bitstream.picture import DecodeOrder, DelayedReferences, Picture, picture_of

_VOP, _GROUP_OF_VOPS, _USER_DATA = b"\0\0\1\xb6", b"\0\0\1\xb3", b"\0\0\1\xb2"
_LAYER = re.compile(b"\0\0\1[\x20-\x2f]")  # a video object layer
_PICTURE, _GROUP, _SEQUENCE, _EXTENSION = b"\0\0\1\0", b"\0\0\1\xb8", b"\0\0\1\xb3", b"\0\0\1\xb5"
_FRAME = 3  # MPEG-2's picture_structure
_SHORTEST = 10  # bytes; a placeholder for a picture packed into an earlier packet has 1 to 8
_TAGS_OF_ENCODERS = ("XVID", "XVIX", "RMP4", "ZMP4", "SIPP", "DIVX", "DX50", "UMP4")


class Mpeg4:
    """A parser of MPEG-4 part 2 packets (ISO/IEC 14496-2).

    FFmpeg works around bugs of encoders, which it recognises by user data in the headers or by the stream's tag.
    """

    def __init__(self, extradata: bytes, tag: str):
        self._extradata = extradata
        self._order = DelayedReferences()
        self._times = _Times(extradata)
        self._named = _USER_DATA in extradata
        self._tagged = tag.upper() in _TAGS_OF_ENCODERS

    def read(self, packet: bytes) -> Picture:
        """Read a packet's headers."""
        at = packet.find(_VOP)
        if at < 0 or len(packet) < _SHORTEST:
            raise ValueError("it may be empty")
        kind = packet[at + 4] >> 6  # I, P, B, S
        group = packet.find(_GROUP_OF_VOPS, 0, at)
        header = packet[: group if group >= 0 else at]
        self._named |= _USER_DATA in header
        self._times.read_layer(header)
        if group >= 0:
            self._times.read_group(packet[group + 4 : at])
        doubt = self._times.next(packet[at + 4 : at + 16], between=kind == 2)
        if not self._named and self._tagged:
            doubt = "its encoder is known by a tag that mp4 does not have"
        if kind == 3:
            doubt = "it has pictures with global motion"
        parameters = b"" if header in self._extradata else header
        order = self._order.next(referenced=kind != 2)
        pictures = 1 + packet.count(_VOP, at + 4)
        return picture_of((pictures, kind == 0, kind != 2, 0, parameters, order, None, doubt))


class _Times:
    """Times of MPEG-4 pictures (6.2.5): FFmpeg drops B-pictures that are not between their references."""

    def __init__(self, extradata: bytes):
        self._resolution = self._bits = 0
        self._second = self._second_before = 0  # times of the last two references
        self._last = self._distance = 0  # ticks of the last reference, and its distance to the previous one
        self.read_layer(extradata)

    def read_layer(self, header: bytes) -> None:
        """Read the ticks per second from the header of a video object layer (6.2.3), if there is one."""
        found = _LAYER.search(header)
        if not found:
            return
        bits = Bits(header[found.end() : found.end() + 32])
        bits.u(1 + 8)
        if bits.u(1):
            bits.u(4 + 3)  # verid and priority
        if bits.u(4) == 15:
            bits.u(2 * 8)  # aspect ratio
        if bits.u(1):
            bits.u(2 + 1)
            if bits.u(1):
                bits.u(79)  # VBV parameters
        bits.u(2 + 1)
        self._resolution = bits.u(16)
        self._bits = max(1, (self._resolution - 1).bit_length())

    def read_group(self, header: bytes) -> None:
        """Read the time code of a group of pictures (6.2.4), the origin of the following seconds."""
        bits = Bits(header)
        minutes = 60 * bits.u(5) + bits.u(6)
        bits.u(1)
        self._second = 60 * minutes + bits.u(6)

    def next(self, header: bytes, *, between: bool) -> str:
        """Read the time of a picture from its header after the start code; return a doubt."""
        bits, seconds = Bits(header), 0
        bits.u(2)
        while bits.u(1):
            seconds += 1
        if not bits.u(1):
            return "it has pictures without a time"
        ticks = bits.u(self._bits)
        if not bits.u(1) or not bits.u(1):
            return "it has pictures that are not coded"
        if between:
            time = (self._second_before + seconds) * self._resolution + ticks
            inside = self._last - self._distance < time < self._last
            return "" if inside else "it has B-pictures that are not between their references"
        self._second_before, self._second = self._second, self._second + seconds
        time = self._second * self._resolution + ticks
        self._distance, self._last = time - self._last, time
        return ""


class Mpeg2:
    """A parser of MPEG-1 and MPEG-2 packets (ITU-T H.262)."""

    def __init__(self, extradata: bytes, tag: str):
        self._extradata = extradata
        self._order = DelayedReferences()
        self._tag_doubt = "its tag stands for headers that mp4 does not have" if tag in ("VCR2", "BW10") else ""

    def read(self, packet: bytes) -> Picture:
        """Read a packet's headers."""
        at = packet.find(_PICTURE)
        if not 0 <= at < len(packet) - 5:
            raise ValueError("it has no picture header")
        kind = packet[at + 5] >> 3 & 7  # I, P, B, D from 1 on
        doubt = self._tag_doubt
        if not 1 <= kind <= 3:
            doubt = "it has pictures of an unknown type"
        group, start = packet.find(_GROUP, 0, at), packet.find(_SEQUENCE, 0, at)
        if group >= 0 and packet[group + 7] & 0x20:
            doubt = "it has broken links"
        header = packet[start : group if group > start else at] if start >= 0 else b""
        parameters = b"" if header in self._extradata else header
        fields = structure(packet, at) != _FRAME
        if packet.count(_PICTURE, at) != 1 + fields:
            doubt = "it has packets with one of two fields" if fields else "it has packets of more pictures"
        order = self._order.next(referenced=kind != 3)
        return picture_of((1, kind == 1, kind != 3, 0, parameters, order, None, doubt))


def structure(packet: bytes, picture: int) -> int:
    """Return picture_structure of the picture with its start code at `picture`; MPEG-1 has only frames."""
    at = packet.find(_EXTENSION, picture, picture + 64)
    extension = packet[at + 4 : at + 7] if at >= 0 else b""
    return extension[2] & 3 if len(extension) == 3 and extension[0] >> 4 == 8 else _FRAME


def has_fields(data: bytes) -> bool:
    """Return True if MPEG-2 data has a picture that is coded as two fields."""
    at = data.find(_PICTURE)
    while at >= 0:
        if structure(data, at) != _FRAME:
            return True
        at = data.find(_PICTURE, at + 4)
    return False


class Mjpeg:
    """A parser of JPEG pictures. They may depend on tables of earlier packets, which a cut omits."""

    def __init__(self) -> None:
        self._order = DecodeOrder()
        self._first: tuple | None = None
        self._fields = True
        self._segments = b""  # segments of the last picture, with the scan marker: encoders mostly repeat them
        self._size, self._doubt = (0, 0), ""

    def read(self, packet: bytes) -> Picture:
        """Read a packet's headers."""
        if not self._segments or not packet.startswith(self._segments):
            self._read_segments(packet)
        # Two pictures in a packet are fields of half the height. After the first frame, only the height shows a field.
        if self._fields:
            self._fields = packet.find(b"\xff\xd8\xff", 2) > 0
        size = None if self._fields else self._size
        return picture_of((1, True, True, 0, b"", self._order.next(), size, self._doubt))

    def _read_segments(self, packet: bytes) -> None:
        self._segments = b""
        content, frame, kinds = _jpeg_segments(packet)
        if not frame:
            raise ValueError("it has no frame header")
        seen = frame, 0xC4 in kinds
        self._first = self._first or seen
        self._doubt = "" if 0xDB in kinds and seen == self._first else "it has pictures that rely on earlier packets"
        self._size = int.from_bytes(frame[6:8], "big"), int.from_bytes(frame[4:6], "big")
        self._segments = content


def _jpeg_segments(packet: bytes) -> tuple[bytes, bytes, set[int]]:
    """Return the segments of a JPEG picture before its scan, the frame header, and the marker codes."""
    frame, kinds, at = b"", set(), packet.find(b"\xff\xd8") + 2
    while 1 < at < len(packet) - 4 and packet[at] == 0xFF and packet[at + 1] != 0xDA:
        kind, length = packet[at + 1], int.from_bytes(packet[at + 2 : at + 4], "big")
        kinds.add(kind)
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            if frame:
                raise ValueError("it has several frame headers")
            frame = packet[at + 1 : at + 2 + length]
        at += 2 + length
    content = packet[: at + 2] if packet[at : at + 2] == b"\xff\xda" else b""
    return content, frame, kinds


class FixedHeader:
    """A parser of intra-only pictures with a signature and their size at fixed offsets of the packet."""

    def __init__(self, mark: bytes, mark_at: int, size_at: slice) -> None:
        self._order = DecodeOrder()
        self._mark, self._mark_at, self._size_at = mark, mark_at, size_at
        self._first = b""

    def read(self, packet: bytes) -> Picture:
        """Read a packet's headers."""
        if not packet.startswith(self._mark, self._mark_at):
            raise ValueError("its mark is missing")
        seen = packet[self._size_at]
        self._first = self._first or seen
        if len(seen) < self._size_at.stop - self._size_at.start:
            raise ValueError("it is too short")
        doubt = "" if seen == self._first else "its pictures may change size"
        return Picture(order=self._order.next(), doubt=doubt)
