"""Compute the matrix that corrects RGB pictures converted as BT.601 although the file specifies another matrix.

DALI converts every video with BT.601, on CPU and GPU, but respects the range (full or limited). FFmpeg, and so the
decoding threads, respect both. A file without colour information counts as BT.601, as in FFmpeg.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dali_pipes.video import mp4

_BT601 = (0.299, 0.114)
_WEIGHTS = {  # weights of red and blue in luma, by matrix coefficients of ITU-T H.273
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
    10: (0.2627, 0.0593),
}


@lru_cache(maxsize=1024)
def correction(description: bytes) -> np.ndarray | None:
    """Return the matrix [3, 3] float32 that corrects RGB values converted as BT.601, for a stream with this `stsd` box;
    None if BT.601 is right.
    """
    colours = mp4.colours(description)
    weights = _WEIGHTS.get(colours[2]) if colours else None
    if weights is None:
        return None
    return (_to_rgb(*weights) @ np.linalg.inv(_to_rgb(*_BT601))).astype(np.float32)


def _to_rgb(red: float, blue: float) -> np.ndarray:
    """Return the matrix [3, 3] from luma and the two colour differences, each in its nominal range, to RGB."""
    green = 1 - red - blue
    to_red, to_blue = 2 * (1 - red), 2 * (1 - blue)
    return np.array([[1, 0, to_red], [1, -to_blue * blue / green, -to_red * red / green], [1, to_blue, 0]])
