"""Decode all frames of a video, turn them upright, and choose a size that decoders handle well.

A phone stores frames as its sensor is oriented, with a display matrix in the file that says how to turn them; readers
made for training ignore the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import Interpolation

from dali_pipes.cut import decode
from dali_pipes.errors import DataError
from dali_pipes.video import container

MULTIPLE = 16  # of both sides: codecs pad to it; NVDEC decoders of other sizes cannot be reused
_FULL_CHR_H_INT, _FULL_CHR_H_INP, _ACCURATE_RND = 0x2000, 0x4000, 0x40000  # FFmpeg's; PyAV has names for them since 18
CAREFUL = int(Interpolation.BICUBIC) | _FULL_CHR_H_INT | _FULL_CHR_H_INP | _ACCURATE_RND
"""Flags for scaling and colour conversion; without them FFmpeg darkens by one to three grey levels."""
_IDENTITY = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])


def decoded(path: str) -> Iterator[av.VideoFrame]:
    """Yield every frame of a video in display order. Raises DataError if one is damaged."""
    with container.open_video(path) as (source, stream):
        decode.configure(stream.codec_context)
        for packet in chain(container.packets(source, stream), [None]):
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


def orientation(frame: av.VideoFrame) -> np.ndarray:
    """Return the display matrix [3, 3] (ISO/IEC 14496-12 8.3.2): how to turn and mirror the frame."""
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    return _IDENTITY if matrix is None else np.frombuffer(matrix, np.int32).reshape(3, 3)


def is_upright(matrix_33: np.ndarray) -> bool:
    return not lies_on_side(matrix_33) and matrix_33[0, 0] > 0 and matrix_33[1, 1] > 0


def lies_on_side(matrix_33: np.ndarray) -> bool:
    """Tell whether turning swaps width and height. Angles are rounded to the nearest quarter turn."""
    return abs(matrix_33[0, 1]) > abs(matrix_33[0, 0])


def turned(picture_HW: np.ndarray, matrix_33: np.ndarray) -> np.ndarray:
    """Turn and mirror a picture, or a plane of one, by a display matrix; axes after the first two are kept."""
    on_side = lies_on_side(matrix_33)
    # A point (x, y) goes to (a x + c y, b x + d y): the first column of the matrix makes x, the second y.
    along_x, along_y = (matrix_33[1, 0], matrix_33[0, 1]) if on_side else (matrix_33[0, 0], matrix_33[1, 1])
    picture_HW = picture_HW.swapaxes(0, 1) if on_side else picture_HW
    return picture_HW[:: -1 if along_y < 0 else 1, :: -1 if along_x < 0 else 1]
