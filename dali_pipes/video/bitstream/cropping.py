"""Cropping: a stream whose decoder gives pictures as they are coded, with the padding that its header hides.

Codecs code blocks: of 340x256 pixels H.264 makes 352x256, and its parameter set says what to cut off. DALI finds an
NVDEC decoder again in its cache only if nothing is cut off. So the header is copied without that, and the graph crops
the pictures to the size that the scan saw.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from dali_pipes.video import mp4
from dali_pipes.video.bitstream.bits import Bits, escape, unescape
from dali_pipes.video.bitstream.parameter_sets import read_h264_sps, read_hevc_sps
from dali_pipes.video.bitstream.units import parameter_units

_BOX = {"h264": b"avcC", "hevc": b"hvcC"}
_HEADER = {"h264": 4, "hevc": 2}  # bytes of a sequence parameter set before those that are read as bits


class Uncropped(NamedTuple):
    """A sample description without cropping, and the size of its pictures."""

    description: bytes
    width: int
    height: int


@lru_cache(maxsize=1024)
def uncropped(codec: str, description: bytes) -> Uncropped | None:
    """Take the cropping out of a `stsd` box. Returns None if there is none at the right and at the bottom alone, or if
    the box does not have exactly one sequence parameter set that can be read.
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
    """Tell from the first byte of a unit if it is a sequence parameter set."""
    return header & 31 == 7 if codec == "h264" else header >> 1 & 63 == 33


def _without_cropping(codec: str, unit: bytes) -> tuple[bytes, int, int] | None:
    """Return a sequence parameter set without its cropping, and the coded width and height."""
    header = _HEADER[codec]
    body = unescape(unit[header:])
    bits = Bits(body)
    start = read_h264_sps(unit, bits) if codec == "h264" else read_hevc_sps(bits)
    if codec == "h264":
        bits.take(1 + start.format.fields)
    flag = 8 * len(body) - bits.left
    if not bits.take(1):
        return None
    left, _, top, _ = (bits.number() for _ in range(4))
    if left or top:
        return None
    text = "".join(f"{byte:08b}" for byte in body)
    text = (text[:flag] + "0" + text[8 * len(body) - bits.left :]).rstrip("0")  # the last 1 ends the set
    text += "0" * (-len(text) % 8)
    return unit[:header] + escape(int(text, 2).to_bytes(len(text) // 8, "big")), start.width, start.height
