"""Find the videos that NVDEC decodes correctly through DALI 2.4, and load the driver's library for it.

These rules were derived from the source of DALI's decoder, not measured. It assigns decoded frames to packets in order:
a packet with two frames (fields; VP9's hidden reference frames) silently shifts all following frames by one. It also
writes chroma in blocks of 2x2 pixels, so out of bounds if width or height is odd. `benchmarks/probe_nvdec.py` tests
these cases on a GPU.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from dali_pipes.video.bitstream import picture_format
from dali_pipes.video.packet_table import Video

LIBRARY = "libnvcuvid.so.1"
PLACES = ("/usr/local/nvidia", "/usr/lib", "/usr/lib64")  # folders of drivers
SMALLEST = {"h264": (48, 16), "hevc": (144, 144)}  # largest width and height of NVDEC for each codec


def library() -> ctypes.CDLL:
    """Load the driver's decoding library, from the usual folders if the dynamic loader does not find it.

    After that, DALI also finds it by its name. Raises OSError with advice if there is none.
    """
    try:
        return ctypes.CDLL(LIBRARY, ctypes.RTLD_GLOBAL)
    except OSError as error:
        found = next((file for place in PLACES for file in Path(place).rglob(LIBRARY)), None)
        if found:
            return ctypes.CDLL(str(found), ctypes.RTLD_GLOBAL)
        advice = "install the driver's video part, or start the container with NVIDIA_DRIVER_CAPABILITIES=all"
        raise OSError(f"{error}; {advice}") from error


class Refusal(NamedTuple):
    """The reason why a decoder cannot be used for a video."""

    kind: str  # short, for counting
    reason: str  # follows the name of the video in a message


FOLDER = Refusal("frame folders", "is a folder of pictures")


def refusal(video: Video) -> Refusal | None:
    """Return the reason why NVDEC is not used for this video, or None if it is."""
    size = f"{video.width}x{video.height}"
    if video.access == "frames":
        return FOLDER
    if video.codec not in SMALLEST:
        reason = f"is {video.codec}, of which NVDEC through DALI may give other frames than asked for"
        return Refusal(video.codec.upper(), reason)
    if video.access == "whole":
        return Refusal("not cuttable", "cannot be cut, and DALI may count its frames otherwise")
    if video.width % 2 or video.height % 2:
        return Refusal("of odd size", f"has pictures of {size}, and DALI on a GPU writes beyond those with an odd side")
    across, down = SMALLEST[video.codec]
    if video.width < across or video.height < down:
        return Refusal("too small", f"has pictures of {size}, too small for NVDEC")
    return _refusal_of_format(video.codec, video.description)


@lru_cache(maxsize=1024)
def _refusal_of_format(codec: str, description: bytes) -> Refusal | None:
    """Return the reason against NVDEC that follows from the codec and the sample description, or None."""
    try:
        bits, chroma, fields = picture_format(codec, description)
    except ValueError as error:
        return Refusal("of unclear format", f"does not say how its pictures are stored ({error})")
    if fields:
        return Refusal("interlaced", "may be interlaced, and DALI on a GPU takes each field for a frame")
    if (bits, chroma) != (8, "4:2:0"):
        kind = f"{bits}-bit" if chroma == "4:2:0" else chroma
        return Refusal(kind, f"has pictures of {bits} bits in {chroma}, and NVDEC is asked for 8 bits in 4:2:0 only")
    return None
