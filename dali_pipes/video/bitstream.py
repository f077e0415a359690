"""What a compressed picture's first bytes say about it: can decoding start here, does any other picture refer to it.

Containers flag keyframes generously and disposable pictures seldom; the bitstream knows better. Reads headers only and
decodes nothing. Codecs without an entry in `READERS` are taken at their container's word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from dali_pipes.video import mp4

_START_CODE = re.compile(rb"\x00*\x00\x00\x01")
_HEVC_CRA, _HEVC_BLA_N_LP = 21, 18


@dataclass(frozen=True, slots=True)
class Picture:
    """What one packet holds."""

    pictures: int  # shown from this packet: 1, or 0 for a mere reference, or 2 with a packed B-picture
    resets: bool = True  # where the container says "keyframe": decoding from here needs and remembers nothing older
    referenced: bool = True  # another picture of the same or a higher temporal layer may refer to it
    layer: int = 0  # temporal layer
    parameters: bytes = b""  # parameter sets carried along; differing ones may mean another size


def length_size(extradata: bytes, codec: str) -> int:
    """Bytes of the length before each unit (avcC, hvcC), or 0 where units follow start codes (Annex B)."""
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 22 and extradata[:3] not in (b"\0\0\0", b"\0\0\1"):
        return (extradata[21] & 3) + 1
    return 0


def units(packet: bytes, prefix: int, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each unit of an H.264 or HEVC packet; raises ValueError where lengths do not add up."""
    end = len(packet) if end is None else end
    if prefix == 0:
        codes = [match.span() for match in _START_CODE.finditer(packet, start, end)]
        yield from zip([stop for _, stop in codes], [begin for begin, _ in codes[1:]] + [end], strict=True)
        return
    while start < end:
        stop = start + prefix + int.from_bytes(packet[start : start + prefix], "big")
        if start + prefix > end or stop > end:
            raise ValueError("the lengths of its units do not add up")
        if stop > start + prefix:
            yield start + prefix, stop
        start = stop


def as_stored_in_mp4(codec: str, extradata: bytes) -> Callable[[bytes], bytes]:
    """What turns a packet of such a stream into what mp4 stores: a length before each unit instead of a start code."""
    return _with_lengths if codec in ("h264", "hevc") and not length_size(extradata, codec) else bytes


def _with_lengths(packet: bytes) -> bytes:
    return b"".join((stop - start).to_bytes(4, "big") + packet[start:stop] for start, stop in units(packet, 0))


def break_link(body: bytearray, prefix: int, start: int, end: int) -> None:
    """Turn an HEVC clean-random-access picture into a broken-link one, in place (ITU-T H.265 7.4.2.2).

    What it followed in the file is not what it follows in a cut, and its leading pictures are gone. A broken link
    starts a new sequence: the picture numbers of the two sides, written with their low bits only, cannot collide.
    """
    for first, _ in units(body, prefix, start, end):
        if body[first] >> 1 & 0x3F == _HEVC_CRA:
            body[first] = body[first] & 0x81 | _HEVC_BLA_N_LP << 1


def _h264(packet: bytes, prefix: int) -> Picture:
    slices, resets, referenced, parameters = 0, False, False, b""
    for start, stop in units(packet, prefix):
        header = packet[start]
        if header & 0x80:
            raise ValueError("a unit's forbidden bit is set")
        kind = header & 0x1F
        if 1 <= kind <= 5:
            slices += 1
            resets |= kind == 5  # an I picture that is no IDR leaves picture numbers running
            referenced |= header & 0x60 != 0
        elif kind in (7, 8):
            parameters += packet[start:stop]
    return Picture(min(slices, 1), resets, referenced, 0, parameters)


def _hevc(packet: bytes, prefix: int) -> Picture:
    slices, resets, referenced, layer, parameters = 0, False, False, 0, b""
    for start, stop in units(packet, prefix):
        if packet[start] & 0x80:
            raise ValueError("a unit's forbidden bit is set")
        kind = packet[start] >> 1 & 0x3F
        if kind < 32:
            slices += 1
            resets |= 16 <= kind <= 21
            referenced |= kind > 15 or kind % 2 == 1  # even kinds below 16: not referred to within their layer
            layer = (packet[start + 1] & 7) - 1
        elif 32 <= kind <= 34:
            parameters += packet[start:stop]
    return Picture(min(slices, 1), resets, referenced, layer, parameters)


def _mpeg4(packet: bytes, _: int) -> Picture:
    at = packet.find(b"\0\0\1\xb6")
    if at < 0 or len(packet) < 10:  # a stand-in for a picture packed into an earlier packet has 1 to 8 bytes
        raise ValueError("it may be empty")
    kind = packet[at + 4] >> 6  # I, P, B
    return Picture(1 + packet.count(b"\0\0\1\xb6", at + 4), resets=kind == 0, referenced=kind != 2)


def _mpeg2(packet: bytes, _: int) -> Picture:
    at = packet.find(b"\0\0\1\0")
    if not 0 <= at < len(packet) - 5:
        raise ValueError("it has no picture header")
    kind = packet[at + 5] >> 3 & 7  # I, P, B from 1 on
    return Picture(1, resets=kind == 1, referenced=kind != 3)


def _vp8(packet: bytes, _: int) -> Picture:
    return Picture(packet[0] >> 4 & 1)  # an invisible picture is decoded and not shown


def _vp9(packet: bytes, _: int) -> Picture:
    bits = f"{packet[0]:08b}{packet[1]:08b}"
    if bits[:2] != "10":
        raise ValueError("its frame marker is missing")
    at = 5 if bits[2:4] == "11" else 4  # profile 3 has a reserved bit
    repeats, inter, visible = (bit == "1" for bit in bits[at : at + 3])
    index = packet[-1]  # of a superframe: hidden frames and a shown one in one packet
    superframe = index >> 5 == 6 and packet[-2 - ((index >> 3 & 3) + 1) * ((index & 7) + 1)] == index
    return Picture(int(repeats or visible or superframe), resets=not repeats and not inter)


READERS: dict[str, Callable[[bytes, int], Picture]] = {
    "h264": _h264,
    "hevc": _hevc,
    "mpeg4": _mpeg4,
    "mpeg1video": _mpeg2,
    "mpeg2video": _mpeg2,
    "vp8": _vp8,
    "vp9": _vp9,
}


_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # H.264 profiles that say more
_ENOUGH = 256  # bytes of a parameter set in which all of this stands
CHROMA = ("4:0:0", "4:2:0", "4:2:2", "4:4:4")


class PictureFormat(NamedTuple):
    """Bits of a sample, how chroma is kept, and whether pictures may come as two fields."""

    bits: int = 8
    chroma: str = "4:2:0"
    fields: bool = False


def picture_format(codec: str, description: bytes) -> PictureFormat:
    """Of a stream's `stsd` box. Raises ValueError where it does not say."""
    kind, read = {"h264": (b"avcC", _h264_format), "hevc": (b"hvcC", _hevc_format)}[codec]
    try:
        return read(mp4.configuration(description, kind))
    except IndexError as error:
        raise ValueError(f"the {kind.decode()} box is cut short") from error


def _hevc_format(configuration: bytes) -> PictureFormat:
    """ISO/IEC 14496-15 8.3.3.1."""
    return PictureFormat(8 + (configuration[17] & 7), CHROMA[configuration[16] & 3])


def _h264_format(configuration: bytes) -> PictureFormat:
    """The first sequence parameter set (ITU-T H.264 7.3.2.1.1)."""
    if not configuration[5] & 31:
        raise ValueError("the avcC box has no sequence parameter set")
    profile, chroma, depth = configuration[9], 1, (0, 0)
    code = _Code(configuration[12:].replace(b"\0\0\3", b"\0\0")[:_ENOUGH])
    code.number()  # which set this is
    if profile in _WITH_CHROMA:
        chroma = code.number()
        if chroma == 3:
            code.bits(1)
        depth = code.number(), code.number()
        code.bits(1)
        _skip_scaling(code, 12 if chroma == 3 else 8)
    code.number()  # length of picture numbers
    _skip_order(code)
    code.number()  # reference pictures
    code.bits(1)
    code.number(), code.number()  # width and height
    return PictureFormat(8 + max(depth), CHROMA[chroma], fields=not code.bits(1))


def _skip_scaling(code: _Code, lists: int) -> None:
    if not code.bits(1):
        return
    for index in range(lists):
        if code.bits(1):
            last = following = 8
            for _ in range(16 if index < 6 else 64):
                if following:
                    following = (last + code.signed()) % 256
                last = following or last


def _skip_order(code: _Code) -> None:
    """How the order of presentation is written."""
    kind = code.number()
    if kind == 0:
        code.number()
    elif kind == 1:
        code.bits(1)
        code.signed(), code.signed()
        for _ in range(code.number()):
            code.signed()


class _Code:
    """Bits, and numbers in Exp-Golomb code (ITU-T H.264 9.1). Raises IndexError behind the end."""

    def __init__(self, data: bytes):
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def bits(self, count: int) -> int:
        taken = self._bits[self._at : self._at + count]
        if len(taken) < count:
            raise IndexError
        self._at += count
        return int(taken, 2)

    def number(self) -> int:
        zeros = 0
        while not self.bits(1):
            zeros += 1
        return (1 << zeros) - 1 + (self.bits(zeros) if zeros else 0)

    def signed(self) -> int:
        number = self.number()
        return (number + 1) // 2 if number % 2 else -(number // 2)
