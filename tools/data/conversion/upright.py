"""Decode all frames of a video, and choose a size to store them in that decoders handle well."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import av
from av.video.reformatter import Interpolation

from dali_pipes.cut import decode
from dali_pipes.errors import DataError
from dali_pipes.scan import processes
from dali_pipes.video import container

MULTIPLE = 16  # of both sides: codecs pad to it; NVDEC decoders of other sizes cannot be reused
_FULL_CHR_H_INT, _FULL_CHR_H_INP, _ACCURATE_RND = 0x2000, 0x4000, 0x40000  # FFmpeg's; PyAV has names for them since 18
CAREFUL = int(Interpolation.BICUBIC) | _FULL_CHR_H_INT | _FULL_CHR_H_INP | _ACCURATE_RND
"""Flags for scaling and colour conversion; without them FFmpeg darkens by one to three grey levels."""


def decoded(path: str) -> Iterator[av.VideoFrame]:
    """Yield every frame of a video in display order. Raises DataError if one is damaged."""
    with container.open_video(path) as (source, stream):
        decode.configure(stream.codec_context)
        for packet in chain(container.packets(source, stream), [None]):
            processes.restart_time_limit()
            for frame in stream.codec_context.decode(packet):
                if frame.is_corrupt:
                    raise DataError(path, "one of its pictures is damaged")
                yield frame


def stored_size(width: int, height: int, short_side: int, upscale: bool) -> tuple[int, int]:
    """Return width and height for a short side of about `short_side` pixels, both multiples of MULTIPLE.

    Sides are rounded to the nearest multiple, so proportions change a little: 340x256 becomes 336x256. Without
    `upscale` no side grows, unless it is shorter than MULTIPLE.
    """
    scale = short_side / min(width, height)
    if not upscale:
        scale = min(1.0, scale)
    rounded = [max(1, round(side * scale / MULTIPLE)) for side in (width, height)]
    if not upscale:
        rounded = [max(1, min(count, side // MULTIPLE)) for count, side in zip(rounded, (width, height), strict=True)]
    return rounded[0] * MULTIPLE, rounded[1] * MULTIPLE
