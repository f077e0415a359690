"""Choose the parser of a stream's packets by its codec."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from dali_pipes.video.bitstream.av1 import Av1
from dali_pipes.video.bitstream.h264 import H264
from dali_pipes.video.bitstream.hevc import Hevc
from dali_pipes.video.bitstream.mpeg import FixedHeader, Mjpeg, Mpeg2, Mpeg4
from dali_pipes.video.bitstream.picture import Reader
from dali_pipes.video.bitstream.units import DISPLAY_ORIENTATION, length_size, parameter_units, sei_types, units
from dali_pipes.video.bitstream.vpx import Vp8, Vp9

READERS: dict[str, Callable[[bytes, str], Reader]] = {
    "h264": lambda extradata, tag: H264(extradata),
    "hevc": lambda extradata, tag: Hevc(extradata),
    "av1": lambda extradata, tag: Av1(extradata),
    "vp8": lambda extradata, tag: Vp8(),
    "vp9": lambda extradata, tag: Vp9(),
    "mpeg4": Mpeg4,
    "mpeg1video": Mpeg2,
    "mpeg2video": Mpeg2,
    "mjpeg": lambda extradata, tag: Mjpeg(),
    "prores": lambda extradata, tag: FixedHeader(b"icpf", 4, slice(8, 21)),
    "dnxhd": lambda extradata, tag: FixedHeader(b"\0\0", 0, slice(24, 28)),
}
"""By FFmpeg's name of the codec, from the stream's extradata and its tag (`avc1`, `XVID`, ...)."""


def make_reader(codec: str, extradata: bytes, tag: str) -> Reader | None:
    """Return a parser for a stream; None if the codec is not supported here.

    Raises ValueError or IndexError if the extradata is malformed.
    """
    make = READERS.get(codec)
    return make(extradata, tag) if make else None


def may_be_rotated(codec: str, extradata: bytes, packet: bytes) -> bool:
    """Return False only if the headers of a stream's first packet certainly contain no display orientation."""
    if codec == "mjpeg":
        return b"Exif" in packet
    if codec not in _SEI:
        return codec not in READERS
    header, kinds = _SEI[codec]
    try:
        found = [packet[start:stop] for start, stop in units(packet, length_size(extradata, codec))]
        found += _parameter_units(extradata, codec)
        sei = [unit for unit in found if unit and kinds(unit[0])]
        return any(DISPLAY_ORIENTATION in sei_types(unit, header, len(unit)) for unit in sei)
    except (ValueError, IndexError):
        return True


_parameter_units = lru_cache(maxsize=256)(parameter_units)  # many files have the same extradata
_SEI: dict[
    str, tuple[int, Callable[[int], bool]]
] = {  # (bytes of a unit header, is its first byte that of an SEI unit?)
    "h264": (1, lambda first: first & 31 == 6),
    "hevc": (2, lambda first: first >> 1 & 63 in (39, 40)),
}
