"""Calls that differ between PyAV versions 15 to 19, so that all versions behave the same."""

from __future__ import annotations

from typing import Any

import av
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

_VERSION = int(av.__version__.partition(".")[0])
_UNSPECIFIED = 2  # the value in ITU-T H.273

LENIENT_TAGS = {"metadata_errors": "ignore"} if _VERSION < 19 else {}
"""For `av.open`: accept tags in any encoding, as in old AVI files. From 19 on this is always so."""


def reformat(reformatter: VideoReformatter, frame: av.VideoFrame, **wanted: Any) -> av.VideoFrame:
    """Call `reformatter.reformat` on the caller's thread only, with the colours of the frame."""
    if _VERSION == 17:  # FFmpeg would convert these as well, and refuses some
        frame.color_primaries = frame.color_trc = _UNSPECIFIED
    if _VERSION >= 17:
        return reformatter.reformat(frame, threads=1, **wanted)
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    colours = {"src_color_range": ColorRange.JPEG if full else ColorRange.MPEG}
    if wanted["format"] == "rgb24":  # FFmpeg uses the frame's matrix only if another one is requested
        colours |= {"dst_color_range": ColorRange.JPEG, "dst_colorspace": Colorspace.ITU601}
    return reformatter.reformat(frame, **{**colours, **wanted})


def primaries_and_transfer(frame: av.VideoFrame) -> tuple[int, int]:
    """Return colour primaries and transfer of a frame; PyAV has them from version 17 on."""
    return getattr(frame, "color_primaries", _UNSPECIFIED), getattr(frame, "color_trc", _UNSPECIFIED)


def display_matrix(frame: av.VideoFrame) -> bytes | None:
    """Return the display matrix of a frame as nine 32-bit numbers, None if it has none."""
    content = frame.side_data.get(Type.DISPLAYMATRIX)
    return None if content is None else bytes(content)


def _unknown_kind(cls: type[Type], number: int) -> Type:
    kind = object.__new__(cls)
    kind._name_, kind._value_ = f"UNKNOWN_{number}", number
    return kind


# Up to version 18, one type of side data that PyAV does not know (Exif) raises ValueError for all side data.
Type._missing_ = classmethod(_unknown_kind)
