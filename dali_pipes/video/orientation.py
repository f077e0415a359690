"""Orientation: the display matrix of a file as one of eight ways to turn and mirror a stored picture upright.

A phone stores pictures as its sensor is oriented, with a display matrix in the file that says how to turn them. An
orientation is three bits; a stored picture becomes upright by the transpose first, then the flips.
"""

from __future__ import annotations

import av
import numpy as np
from av.sidedata.sidedata import Type

UPRIGHT = 0
TRANSPOSED = 1  # rows become columns
MIRRORED = 2  # left becomes right
UPSIDE_DOWN = 4  # top becomes bottom


def orientation(frame: av.VideoFrame) -> int:
    """Return the orientation that a frame's display matrix asks for (ISO/IEC 14496-12 8.3.2), to the nearest quarter
    turn.
    """
    content = frame.side_data.get(Type.DISPLAYMATRIX)
    if content is None:
        return UPRIGHT
    (a, b, _), (c, d, _), _ = np.frombuffer(content, np.int32).reshape(3, 3).tolist()
    # A point (x, y) goes to (a x + c y, b x + d y): the first column of the matrix makes x, the second y.
    on_side = abs(b) > abs(a)
    along_x, along_y = (c, b) if on_side else (a, d)
    return TRANSPOSED * on_side | MIRRORED * (along_x < 0) | UPSIDE_DOWN * (along_y < 0)


def turned(picture_HW: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a stored picture, or a plane of one, upright; axes after the first two are kept."""
    picture_HW = picture_HW.swapaxes(0, 1) if orientation & TRANSPOSED else picture_HW
    rows, columns = -1 if orientation & UPSIDE_DOWN else 1, -1 if orientation & MIRRORED else 1
    return picture_HW[::rows, ::columns]


def stored_boxes(box_V4: np.ndarray, orientation: int, width: int, height: int) -> np.ndarray:
    """Map boxes (left, top, right, bottom) of the upright picture to the stored one of `width` x `height` pixels."""
    if orientation == UPRIGHT:
        return box_V4
    left, top, right, bottom = box_V4.T
    across, down = (height, width) if orientation & TRANSPOSED else (width, height)
    if orientation & MIRRORED:
        left, right = across - right, across - left
    if orientation & UPSIDE_DOWN:
        top, bottom = down - bottom, down - top
    sides = (top, left, bottom, right) if orientation & TRANSPOSED else (left, top, right, bottom)
    return np.stack(sides, axis=1)
