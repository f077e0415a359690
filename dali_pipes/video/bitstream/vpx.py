"""`Vp8` and `Vp9`: parse packets of VP8 (RFC 6386) and VP9 (bitstream specification, section 6)."""

from __future__ import annotations

from typing import NamedTuple

from dali_pipes.video.bitstream.bits import Bits
from dali_pipes.video.bitstream.picture import DecodeOrder, Picture, picture_of

_SYNC = 0x498342
_RGB = 7  # color_space
_HEADER = 80  # bytes that contain an uncompressed header
_FEATURES = (9, 7, 2, 0)  # bits of a segment's features


class Vp8:
    """A parser of VP8 packets."""

    def __init__(self) -> None:
        self._order = DecodeOrder()
        self._version: int | None = None

    def read(self, packet: bytes) -> Picture:
        """Read a packet's headers."""
        keyframe, version, size = not packet[0] & 1, packet[0] >> 1 & 7, None
        if self._version is None:
            self._version = version
        doubt = "" if version == self._version else "its version changes"
        if keyframe:
            if packet[3:6] != b"\x9d\x01\x2a" or len(packet) < 10:
                raise ValueError("a keyframe's start code is missing")
            size = tuple(int.from_bytes(packet[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        if (10 if keyframe else 3) + (int.from_bytes(packet[:3], "little") >> 5) > len(packet):
            raise ValueError("its first partition is longer than the packet")
        return picture_of((packet[0] >> 4 & 1, keyframe, True, 0, b"", self._order.next(), size, doubt))


class Frame(NamedTuple):
    """Content of a VP9 frame's header."""

    visible: bool
    keyframe: bool
    again: bool  # show_existing_frame: it has nothing else


class Vp9:
    """A parser of VP9 packets."""

    def __init__(self) -> None:
        self._order = DecodeOrder()
        self._size: tuple[int, int] | None = None
        self._colours: tuple[int, ...] | None = None
        self._known: dict[int, dict[int, Frame]] = {}
        """Parsed headers, by the number of their bits and the bits: a prefix code, and most come again."""

    def read(self, packet: bytes) -> Picture:
        """Parse the headers of a packet: of one frame, or of all frames of a superframe."""
        shown, resets, doubt = 0, False, ""
        self._doubt = ""
        for number, (start, stop) in enumerate(frames(packet)):
            visible, keyframe = self._frame(packet[start : min(stop, start + _HEADER)], stop - start)
            shown += visible
            resets |= keyframe and number == 0
            doubt = doubt or self._doubt
        return picture_of((shown, resets, True, 0, b"", self._order.next(), self._size, doubt))

    def _frame(self, header: bytes, size: int) -> tuple[bool, bool]:
        """Parse the uncompressed header (6.2) of a frame of `size` bytes; return (is it shown, is it a keyframe)."""
        value, total = int.from_bytes(header, "big"), 8 * len(header)
        for length, known in self._known.items():
            if length <= total and (seen := known.get(value >> total - length)):
                break
        else:
            bits = Bits(header)
            seen = self._fields(bits)
            length = total - bits.left
            if not self._doubt:
                self._known.setdefault(length, {})[value >> bits.left] = seen
        if not seen.again:
            _check_compressed(header, length, value >> max(0, total - length - 16) & 0xFFFF, size)
        return seen.visible, seen.keyframe

    def _fields(self, bits: Bits) -> Frame:
        """Parse the header up to the size of the compressed header."""
        if bits.u(2) != 2:
            raise ValueError("its frame marker is missing")
        profile = bits.u(1) + 2 * bits.u(1)
        if profile == 3:
            bits.u(1)
        if bits.u(1):
            return Frame(visible=True, keyframe=False, again=True)
        inter, visible, resilient = bits.u(1), bool(bits.u(1)), bits.u(1)
        if not inter:
            self._synchronise(bits)
            self._read_colours(bits, profile)
            self._read_size(bits)
        else:
            self._read_references(bits, profile, visible, resilient)
        bits.u(2 + 2 * (not resilient))  # frame contexts
        self._read_parameters(bits)
        return Frame(visible, keyframe=not inter, again=False)

    def _read_references(self, bits: Bits, profile: int, visible: bool, resilient: int) -> None:
        """Parse the reference frames and the size of an inter frame."""
        intra_only = not visible and bits.u(1)
        if not resilient:
            bits.u(2)
        if intra_only:
            self._synchronise(bits)
            if profile:
                self._read_colours(bits, profile)
            bits.u(8)
            self._read_size(bits)
            return
        bits.u(8 + 3 * 4)
        if bits.u(1) or bits.u(1) or bits.u(1):  # frame_size_with_refs
            _read_shown_size(bits)
        else:
            self._read_size(bits)
        if not bits.u(2) & 1:  # allow_high_precision_mv; is_filter_switchable
            bits.u(2)

    def _read_parameters(self, bits: Bits) -> None:
        """Read the loop filter, quantisation, segments and tiles (6.2.8 to 6.2.13)."""
        if bits.u(6 + 3 + 1) & 1 and bits.u(1):
            _take_if_set(bits, 4 + 2, 7)
        bits.u(8)
        _take_if_set(bits, 3, 5)
        if bits.u(1):
            _read_segments(bits)
        columns, most = (self._size[0] + 63) // 64 if self._size else 1, 1
        while columns >> most >= 4:
            most += 1
        for _ in range(max(0, (columns - 1).bit_length() - 6), most - 1):
            if not bits.u(1):
                break
        if bits.u(1):
            bits.u(1)

    def _synchronise(self, bits: Bits) -> None:
        if bits.u(24) != _SYNC:
            raise ValueError("its sync code is missing")

    def _read_colours(self, bits: Bits, profile: int) -> None:
        deep, space = bits.u(1) if profile >= 2 else 0, bits.u(3)
        chroma = 0
        if space != _RGB:
            bits.u(1)
            chroma = bits.u(3) if profile in (1, 3) else 0
        elif profile in (1, 3):
            bits.u(1)
        seen = profile, deep, space, chroma
        self._colours = self._colours or seen
        if seen != self._colours:
            self._doubt = "its pixel format changes"

    def _read_size(self, bits: Bits) -> None:
        seen = bits.u(16) + 1, bits.u(16) + 1
        if self._size not in (None, seen):
            self._doubt = "its pictures may change size"
        self._size = self._size or seen
        _read_shown_size(bits)


def _check_compressed(header: bytes, length: int, compressed: int, size: int) -> None:
    """Raise ValueError unless a header of `length` bits is followed by the size of a compressed header and the header
    itself.

    `size`: bytes of the frame.
    """
    end = length + 16
    at = (end + 7) // 8
    if at > len(header):
        raise ValueError("a header is cut short")
    if not 0 < compressed <= size - at:
        raise ValueError("the size of its compressed header is wrong")
    if header[at - 1] & (1 << -end % 8) - 1:
        raise ValueError("its header does not end where it should")
    if header[at : at + 1] >= b"\x80":
        raise ValueError("the marker of its compressed header is set")


def _read_shown_size(bits: Bits) -> None:
    if bits.u(1):
        bits.u(2 * 16)


def _take_if_set(bits: Bits, count: int, width: int) -> None:
    """Skip `count` optional numbers of `width` bits, each after a bit that says if it is present."""
    for _ in range(count):
        if bits.u(1):
            bits.u(width)


def _read_segments(bits: Bits) -> None:
    """Read the parameters of segments (6.2.11)."""
    if bits.u(1):  # update_map
        _take_if_set(bits, 7, 8)
        if bits.u(1):
            _take_if_set(bits, 3, 8)
    if bits.u(1):  # update_data
        bits.u(1)
        for width in 8 * _FEATURES:
            if bits.u(1):
                bits.u(width)


def frames(packet: bytes) -> list[tuple[int, int]]:
    """Return (start, end) of each frame of a VP9 packet; a superframe has several (annex B)."""
    marker = packet[-1]
    if marker >> 5 == 6:
        count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
        index = len(packet) - 2 - count * width
        if index >= 0 and packet[index] == marker:
            found, at = [], 0
            for place in range(index + 1, len(packet) - 1, width):
                size = int.from_bytes(packet[place : place + width], "little")
                if size:
                    found.append((at, at + size))
                at += size
            if at > index:
                raise ValueError("the sizes of its frames do not add up")
            return found
    return [(0, len(packet))]
