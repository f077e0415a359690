"""`Av1`: read the packets of an AV1 stream (AV1 bitstream specification, section 5)."""

from __future__ import annotations

from typing import NamedTuple

from dali_pipes.video.bitstream.bits import Bits
from dali_pipes.video.bitstream.picture import DecodeOrder, Picture, picture_of

_SEQUENCE, _DELIMITER, _FRAME_HEADER, _TILES, _METADATA, _FRAME, _PADDING = 1, 2, 3, 4, 5, 6, 15
_KEY, _SWITCH = 0, 3
_SELECT = 2  # each frame selects the tool
_CONFIGURATION = 4  # bytes of an av1C box before its units
_HEADER = 32  # bytes of a frame header that contain all parsed fields


class Sequence(NamedTuple):
    """A sequence header (5.5)."""

    still: bool
    size: tuple[int, int]
    time_bits: int  # bits of frame_presentation_time; 0 if frames do not have it
    frame_id_bits: int
    screen_content: int
    integer_motion: int
    layers: bool


class Av1:
    """A reader of AV1 packets."""

    def __init__(self, extradata: bytes):
        self._order = DecodeOrder()
        self._header = b""
        self._sequence: Sequence | None = None
        for kind, start, stop in units(extradata[_CONFIGURATION:]):
            if kind == _SEQUENCE:
                self._header = extradata[_CONFIGURATION:][start:stop]
                self._sequence = sequence(self._header)
        self._known = self._header

    def read(self, packet: bytes) -> Picture:
        """Read a packet's headers."""
        shown, count, resets, parameters, doubt = 0, 0, False, b"", ""
        for kind, start, stop in units(packet):
            if kind == _SEQUENCE:
                if packet[start:stop] != self._header:
                    self._header = packet[start:stop]
                    self._sequence = sequence(self._header)
                if self._header != self._known:
                    parameters = self._header
                if self._sequence.layers:
                    doubt = "it has several layers"
            elif kind in (_FRAME_HEADER, _FRAME):
                if self._sequence is None:
                    raise ValueError("its sequence header is missing")
                visible, keyframe, problem = frame(packet[start : min(stop, start + _HEADER)], self._sequence)
                shown += visible
                resets |= keyframe and visible and count == 0
                count += 1
                doubt = doubt or problem
            elif kind not in (_DELIMITER, _TILES, _METADATA, _PADDING):
                doubt = f"it has units of type {kind}"
        size = self._sequence.size if self._sequence else None
        return picture_of((shown, resets, True, 0, parameters, self._order.next(), size, doubt))


def units(data: bytes) -> list[tuple[int, int, int]]:
    """Return (type, start, end) of the payload of each unit (OBU, 5.3)."""
    found, at = [], 0
    while at < len(data):
        header = data[at]
        if header & 0x80:
            raise ValueError("a unit's forbidden bit is set")
        at += 1 + (header >> 2 & 1)
        size = len(data) - at
        if header & 2:
            size = shift = 0
            while data[at] & 0x80:
                size |= (data[at] & 0x7F) << shift
                shift += 7
                at += 1
            size |= data[at] << shift
            at += 1
        if at + size > len(data):
            raise ValueError("the lengths of its units do not add up")
        found.append((header >> 3 & 15, at, at + size))
        at += size
    return found


def sequence(unit: bytes) -> Sequence:
    """Parse a sequence header."""
    bits = Bits(unit)
    bits.u(3)
    still, reduced = bits.u(1), bits.u(1)
    time_bits, layers = 0, False
    if reduced:
        bits.u(5)
    else:
        time_bits, layers = _operating_points(bits)
    width_bits, height_bits = bits.u(4) + 1, bits.u(4) + 1
    size = bits.u(width_bits) + 1, bits.u(height_bits) + 1
    id_bits = 0
    if not reduced and bits.u(1):
        id_bits = bits.u(4) + 2
        id_bits += bits.u(3) + 1
    bits.u(3)
    screen_content = integer_motion = _SELECT
    if not reduced:
        bits.u(4)
        if bits.u(1):
            bits.u(2)
        screen_content = _SELECT if bits.u(1) else bits.u(1)
        if screen_content:
            integer_motion = _SELECT if bits.u(1) else bits.u(1)
    return Sequence(bool(still or reduced), size, time_bits, id_bits, screen_content, integer_motion, layers)


def _operating_points(bits: Bits) -> tuple[int, bool]:
    """Parse timing and operating points of a sequence header; return the bits of a frame's time, and True if there are
    layers.
    """
    time_bits = delay_bits = 0
    model = False
    if bits.u(1):
        bits.u(64)
        equal = bits.u(1)
        if equal:
            bits.ue()
        model = bool(bits.u(1))
        if model:
            delay_bits = bits.u(5) + 1
            bits.u(32 + 5)
            time_bits = bits.u(5) + 1
            time_bits = 0 if equal else time_bits
    delays, layers = bits.u(1), False
    for _ in range(bits.u(5) + 1):
        layers |= bits.u(12) > 0
        if bits.u(5) > 7:
            bits.u(1)
        if model and bits.u(1):
            bits.u(2 * delay_bits + 1)
        if delays and bits.u(1):
            bits.u(4)
    return time_bits, layers


def frame(header: bytes, of: Sequence) -> tuple[bool, bool, str]:
    """Parse a frame header (5.9.2) up to the frame size; return (is it shown, is it a keyframe, a doubt)."""
    if of.still:
        return True, True, ""
    bits = Bits(header)
    if bits.u(1):  # show_existing_frame
        return True, False, ""
    kind, visible = bits.u(2), bool(bits.u(1))
    if visible:
        bits.u(of.time_bits)
    else:
        bits.u(1)
    if kind != _SWITCH and not (kind == _KEY and visible):
        bits.u(1)
    bits.u(1)
    tools = bits.u(1) if of.screen_content == _SELECT else of.screen_content
    if tools and of.integer_motion == _SELECT:
        bits.u(1)
    bits.u(of.frame_id_bits)
    overrides = kind == _SWITCH or bits.u(1)
    return visible, kind == _KEY, "its pictures may change size" if overrides else ""
