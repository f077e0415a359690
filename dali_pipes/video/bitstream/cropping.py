"""Remove the cropping from a stream's header, so that its decoder outputs pictures with their padding.

Codecs code whole blocks: H.264 codes 340x256 as 352x256, and the parameter set contains the cropping. DALI reuses an
NVDEC decoder of its cache only without cropping. So the header is copied without it, and the graph crops the pictures
to the size that the scan found.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from dali_pipes.video import mp4
from dali_pipes.video.bitstream.bits import Bits, escape, unescape
from dali_pipes.video.bitstream.parameter_sets import read_h264_sps, read_hevc_sps
from dali_pipes.video.bitstream.units import parameter_units

_BOX = {"h264": b"avcC", "hevc": b"hvcC"}
_HEADER = {"h264": 4, "hevc": 2}  # bytes of a sequence parameter set before those that are parsed as bits


class Uncropped(NamedTuple):
    """A sample description without cropping, and the coded size."""

    description: bytes
    width: int
    height: int


@lru_cache(maxsize=1024)
def uncropped(codec: str, description: bytes) -> Uncropped | None:
    """Remove the cropping from a `stsd` box. Returns None if there is none, if it is not at the right and bottom only,
    or if the box does not have exactly one readable sequence parameter set.
    """
    if codec not in _BOX:
        return None
    configuration = mp4.configuration(description, _BOX[codec])
    try:
        sets = [unit for unit in parameter_units(configuration, codec) if is_sequence_set(codec, unit[0])]
        changed = _without_cropping(codec, sets[0]) if len(sets) == 1 else None
    except (ValueError, IndexError):
        return None
    if changed is None:
        return None
    unit, width, height = changed
    old, new = (len(each).to_bytes(2, "big") + each for each in (sets[0], unit))
    if configuration.count(old) != 1:
        return None
    return Uncropped(mp4.with_box(description, _BOX[codec], configuration.replace(old, new)), width, height)


def is_sequence_set(codec: str, header: int) -> bool:
    """Return True if the first byte of a unit is that of a sequence parameter set."""
    return header & 31 == 7 if codec == "h264" else header >> 1 & 63 == 33


def _without_cropping(codec: str, unit: bytes) -> tuple[bytes, int, int] | None:
    """Return a sequence parameter set without its cropping, and the coded width and height."""
    header = _HEADER[codec]
    body = unescape(unit[header:])
    bits = Bits(body)
    start = read_h264_sps(unit, bits) if codec == "h264" else read_hevc_sps(bits)
    if codec == "h264":
        bits.u(1 + start.format.fields)
    flag = 8 * len(body) - bits.left
    if not bits.u(1):
        return None
    left, _, top, _ = (bits.ue() for _ in range(4))
    if left or top:
        return None
    text = "".join(f"{byte:08b}" for byte in body)
    text = (text[:flag] + "0" + text[8 * len(body) - bits.left :]).rstrip("0")  # rbsp_stop_one_bit
    text += "0" * (-len(text) % 8)
    return unit[:header] + escape(int(text, 2).to_bytes(len(text) // 8, "big")), start.width, start.height
