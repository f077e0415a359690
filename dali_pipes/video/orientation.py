"""Orientation: the display matrix of a file as one of eight combinations of rotation and mirroring.

Phones store pictures in the orientation of the sensor, with a display matrix that says how to rotate them. An
orientation is three bits: to make a stored picture upright, first transpose it, then apply the flips.

PyAV provides the matrix only with a decoded picture. A scan decodes one only if container or headers may contain a
matrix.
"""

from __future__ import annotations

import re

import av
import numpy as np
from av.video.stream import VideoStream

from dali_pipes.storage.sources import ByteSource
from dali_pipes.video import bitstream, mp4
from dali_pipes.video.pyav import display_matrix

UPRIGHT = 0
TRANSPOSED = 1  # rows become columns
MIRRORED = 2  # left becomes right
UPSIDE_DOWN = 4  # top becomes bottom

_WITHOUT_MATRIX = ("avi", "mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "flv", "ivf", "ogg", "asf", "obu")
"""Containers that cannot hold a display matrix, by FFmpeg's names."""
_TRACKS = b"\x16\x54\xae\x6b"  # an element of Matroska (RFC 9559 5.1.4)
_PROJECTION = re.compile(rb"\x76\x70.{1,16}\x76[\x71-\x75]", re.DOTALL)  # the element, with a child soon after it
_MATROSKA_HEADER = 1 << 16  # bytes that are searched


def stream_orientation(stream: VideoStream, first: av.Packet, form: str, moov: bytes, source: ByteSource) -> int:
    """Return the orientation of a stream. Its first packet is decoded if there may be a display matrix.

    `form`: FFmpeg's name of the container. `moov`: the index of an mp4. `source`: the file. Decoding changes the state
    of the stream's decoder.
    """
    context = stream.codec_context
    codec, extradata = context.codec.canonical_name, context.extradata or b""
    if not (_container_may_turn(form, moov, first, source) or bitstream.may_be_rotated(codec, extradata, bytes(first))):
        return UPRIGHT
    try:
        frames = [*context.decode(first), *context.decode(None)]
    except av.FFmpegError:  # other checks decide if the file is readable
        return UPRIGHT
    return orientation(frames[0]) if frames else UPRIGHT


def _container_may_turn(form: str, moov: bytes, first: av.Packet, source: ByteSource) -> bool:
    """Return False only if the container's display matrix is certainly the identity or missing."""
    if form == "mov":
        return not mp4.all_upright(moov)
    if form == "matroska":
        header = source.read(0, min(first.pos or 0, _MATROSKA_HEADER))
        return _TRACKS not in header or bool(_PROJECTION.search(header))
    return form not in _WITHOUT_MATRIX


def orientation(frame: av.VideoFrame) -> int:
    """Return the orientation of a frame's display matrix (ISO/IEC 14496-12 8.3.2), rounded to quarter turns."""
    content = display_matrix(frame)
    if content is None:
        return UPRIGHT
    (a, b, _), (c, d, _), _ = np.frombuffer(content, np.int32).reshape(3, 3).tolist()
    # A point (x, y) is mapped to (a x + c y, b x + d y): the first column of the matrix gives x, the second y.
    on_side = abs(b) > abs(a)
    along_x, along_y = (c, b) if on_side else (a, d)
    return TRANSPOSED * on_side | MIRRORED * (along_x < 0) | UPSIDE_DOWN * (along_y < 0)


def turned(picture_HW: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate a stored picture, or a plane of it, upright; axes after the first two are kept."""
    picture_HW = picture_HW.swapaxes(0, 1) if orientation & TRANSPOSED else picture_HW
    rows, columns = -1 if orientation & UPSIDE_DOWN else 1, -1 if orientation & MIRRORED else 1
    return picture_HW[::rows, ::columns]


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Return the width and height of a stored picture after rotating it upright."""
    return (height, width) if orientation & TRANSPOSED else (width, height)


def stored_boxes(box_V4: np.ndarray, orientation: int, width: int, height: int) -> np.ndarray:
    """Map boxes (left, top, right, bottom) from the upright picture to the stored one of `width` x `height` pixels."""
    if orientation == UPRIGHT:
        return box_V4
    left, top, right, bottom = box_V4.T
    across, down = upright_size(width, height, orientation)
    if orientation & MIRRORED:
        left, right = across - right, across - left
    if orientation & UPSIDE_DOWN:
        top, bottom = down - bottom, down - top
    sides = (top, left, bottom, right) if orientation & TRANSPOSED else (left, top, right, bottom)
    return np.stack(sides, axis=1)
