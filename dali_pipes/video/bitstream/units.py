"""Units (NAL units) of H.264 and HEVC packets: find them, convert them, and change the types that a cut needs."""

from __future__ import annotations

import re
from collections.abc import Callable

from dali_pipes.video.bitstream.bits import unescape

FILM_GRAIN = 19  # an SEI message for which FFmpeg changes pixels
DISPLAY_ORIENTATION = 47  # the SEI message with the display orientation
_START_CODE = re.compile(rb"\x00*\x00\x00\x01")
_HEVC_CRA, _HEVC_BLA_N_LP = 21, 18


def length_size(extradata: bytes, codec: str) -> int:
    """Return the size of the length field before each unit (avcC, hvcC), or 0 for start codes (Annex B)."""
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 22 and extradata[:3] not in (b"\0\0\0", b"\0\0\1"):
        return (extradata[21] & 3) + 1
    return 0


def units(packet: bytes, prefix: int, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """Return (start, end) of each unit of an H.264 or HEVC packet. Raises ValueError if lengths do not add up."""
    end = len(packet) if end is None else end
    if prefix == 0:
        codes = [match.span() for match in _START_CODE.finditer(packet, start, end)]
        return list(zip([stop for _, stop in codes], [begin for begin, _ in codes[1:]] + [end], strict=True))
    found = []
    while start < end:
        first = start + prefix
        stop = first + int.from_bytes(packet[start:first], "big")
        if not first < stop <= end:
            raise ValueError("the lengths of its units do not add up")
        found.append((first, stop))
        start = stop
    return found


def is_one_unit(packet: bytes, prefix: int) -> bool:
    """Return True if a packet is a single unit after its length, like most. Faster than `units`."""
    return 0 < prefix < len(packet) == prefix + int.from_bytes(packet[:prefix], "big")


def as_stored_in_mp4(codec: str, extradata: bytes) -> Callable[[bytes], bytes]:
    """Return a function that converts packets to the mp4 format: a length before each unit instead of a start code."""
    return _with_lengths if codec in ("h264", "hevc") and not length_size(extradata, codec) else bytes


def _with_lengths(packet: bytes) -> bytes:
    return b"".join((stop - start).to_bytes(4, "big") + packet[start:stop] for start, stop in units(packet, 0))


def break_link(body: bytearray, prefix: int, start: int, end: int) -> None:
    """Turn an HEVC clean random access picture (CRA) into a broken-link access picture (BLA), in place (ITU-T H.265
    7.4.2.2).

    In a cut, the preceding pictures and its leading pictures are missing. A broken link starts a new sequence, so that
    picture order counts before and after it, of which only the low bits are stored, cannot collide.
    """
    for first, _ in units(body, prefix, start, end):
        if body[first] >> 1 & 0x3F == _HEVC_CRA:
            body[first] = body[first] & 0x81 | _HEVC_BLA_N_LP << 1


def parameter_units(extradata: bytes, codec: str) -> list[bytes]:
    """Return the units in a stream's extradata (an avcC or hvcC box, or start codes). Raises ValueError."""
    if not length_size(extradata, codec):
        return [extradata[start:stop].rstrip(b"\0") for start, stop in units(extradata, 0)]
    found: list[bytes] = []
    if codec == "h264":
        at = _read_units(extradata, 6, extradata[5] & 31, found)
        if at < len(extradata):
            _read_units(extradata, at + 1, extradata[at], found)
        return found
    at = 23
    for _ in range(extradata[22]):
        at = _read_units(extradata, at + 3, int.from_bytes(extradata[at + 1 : at + 3], "big"), found)
    return found


def _read_units(extradata: bytes, at: int, count: int, found: list[bytes]) -> int:
    """Append `count` units, each after a length of 2 bytes, to `found`; return the end."""
    for _ in range(count):
        start = at + 2
        at = start + int.from_bytes(extradata[at:start], "big")
        if at > len(extradata):
            raise ValueError("the extradata is cut short")
        found.append(extradata[start:at].rstrip(b"\0"))
    return at


def sei_types(packet: bytes, start: int, stop: int) -> set[int]:
    """Return the types of the messages in an SEI unit (ITU-T H.264 7.3.2.3); `start` is after the unit header."""
    unit = unescape(packet[start:stop])
    found, at, stop = set(), 0, len(unit)
    while at + 2 < stop:
        numbers = []
        for _ in range(2):  # type and size, each a sum of bytes up to one that is not 255
            number = 0
            while at < stop and unit[at] == 255:
                number += 255
                at += 1
            numbers.append(number + (unit[at] if at < stop else 0))
            at += 1
        found.add(numbers[0])
        at += numbers[1]
    return found
