"""What is said otherwise to one version of PyAV than to another, so that all do the same; 15 to 19 are known."""

from __future__ import annotations

from typing import Any

import av
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

_VERSION = int(av.__version__.partition(".")[0])
_UNSPECIFIED = 2  # in ITU-T H.273

LENIENT_TAGS = {"metadata_errors": "ignore"} if _VERSION < 19 else {}
"""For `av.open`: tags may be in any encoding, as those of old AVI files are. From 19 on they may anyway."""


def reformat(reformatter: VideoReformatter, frame: av.VideoFrame, **wanted: Any) -> av.VideoFrame:
    """`reformatter.reformat` on the caller's thread alone, from the colours that the frame says it has."""
    if _VERSION >= 17:
        return reformatter.reformat(frame, threads=1, **wanted)
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    said = {"src_color_range": ColorRange.JPEG if full else ColorRange.MPEG}
    if wanted["format"] == "rgb24":  # that another matrix is wanted makes FFmpeg look at the frame's own
        said |= {"dst_color_range": ColorRange.JPEG, "dst_colorspace": Colorspace.ITU601}
    return reformatter.reformat(frame, **{**said, **wanted})


def primaries_and_transfer(frame: av.VideoFrame) -> tuple[int, int]:
    """What a frame says of its colours beside their matrix and range; before 17 PyAV does not tell."""
    return getattr(frame, "color_primaries", _UNSPECIFIED), getattr(frame, "color_trc", _UNSPECIFIED)
