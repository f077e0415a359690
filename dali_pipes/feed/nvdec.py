"""Which videos are left to NVDEC, as DALI 2.4 uses it, and whether its library is there at all.

Read out of DALI's decoder, not measured. It takes the pictures that NVDEC decodes for those of the packets, in turn: a
packet with two pictures (fields; VP9's hidden references) shifts all that follow by one, without a word. And it writes
colours two by two pixels, beyond the end of a picture with an odd side. `benchmarks/probe_nvdec.py` asks a GPU.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

from dali_pipes.scan.catalog import Catalog
from dali_pipes.video.bitstream import picture_format
from dali_pipes.video.packet_table import Video

LIBRARY = "libnvcuvid.so.1"
PLACES = ("/usr/local/nvidia", "/usr/lib", "/usr/lib64")  # where drivers are put
SMALLEST = {"h264": (48, 16), "hevc": (144, 144)}  # pixels across and down that NVDEC takes, of the codecs it is given


def library() -> ctypes.CDLL:
    """The driver's decoding library. Raises OSError, with advice, where the loader, and so DALI, finds none."""
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        found = next((file for place in PLACES for file in Path(place).rglob(LIBRARY)), None)
        advice = (
            f"add {found.parent} to LD_LIBRARY_PATH"
            if found
            else "install the driver's video part, or start the container with NVIDIA_DRIVER_CAPABILITIES=all"
        )
        raise OSError(f"{error}; {advice}") from error


def objection(video: Video) -> str:
    """Why this video is not left to NVDEC; empty where it is."""
    if video.codec not in SMALLEST:
        return f"is {video.codec}, of which NVDEC through DALI may give other frames than asked for"
    if video.access == "whole":
        return "cannot be cut, and DALI may count its frames otherwise"
    if video.width % 2 or video.height % 2:
        return f"has pictures of {video.width}x{video.height}, and DALI on a GPU writes beyond those with an odd side"
    across, down = SMALLEST[video.codec]
    if video.width < across or video.height < down:
        return f"has pictures of {video.width}x{video.height}, too small for NVDEC"
    return _objection(video.codec, video.description)


@lru_cache(maxsize=1024)
def _objection(codec: str, description: bytes) -> str:
    """The same, of all videos that are stored alike."""
    try:
        bits, chroma, fields = picture_format(codec, description)
    except ValueError as error:
        return f"does not say how its pictures are stored ({error})"
    if fields:
        return "may be interlaced, and DALI on a GPU takes each field for a frame"
    if (bits, chroma) != (8, "4:2:0"):
        return f"has pictures of {bits} bits in {chroma}, and NVDEC is asked for 8 bits in 4:2:0 only"
    return ""


def objections(catalog: Catalog) -> str:
    """Why this set is not left to NVDEC: how many of its videos it should not decode, and one of them. Empty: none."""
    rows, counts = catalog.kinds()
    reasons = [objection(catalog.video(row)) for row in rows.tolist()]
    found = [kind for kind in zip(counts.tolist(), rows.tolist(), reasons, strict=True) if kind[2]]
    if not found:
        return ""
    _, row, reason = max(found)
    number = sum(count for count, *_ in found)
    return f"{number} of {len(catalog.usable)} videos are none for NVDEC; {catalog.path(row)} {reason}"
