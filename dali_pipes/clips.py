"""Clips made on a CPU by the threads that decoded them: crop and resize, mirror, normalise, as `graph.clip_graph` does.

DALI's resampling on a CPU takes several times as long as torch's. What torch cannot do is left to Pillow: boxes with
fractions of pixels, and those that leave it no place to begin. Pixels differ by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image


class ClipMaker:
    """Turns decoded frames into clips of `size` pixels, normalised by `mean` and `std` of pictures in [0, 1]."""

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float], *, half: bool):
        self._size = size
        self._dtype = np.float16 if half else np.float32
        self._scale_WC = np.tile(1 / (255 * np.float32(std)), size)
        self._shift_WC = np.tile(-np.float32(mean) / np.float32(std), size)

    def empty(self, *shape_BVT: int) -> np.ndarray:
        """Room for clips, BVTHWC."""
        return np.empty((*shape_BVT, self._size, self._size, 3), self._dtype)

    def make(
        self,
        frames_UHWC: np.ndarray,
        order_VT: np.ndarray,
        box_V4: np.ndarray,
        mirror_V: np.ndarray,
        out_VTHWC: np.ndarray,
    ) -> None:
        """Write the views of a video, given its frames, into `out_VTHWC`. The arguments are those of the graph."""
        for order_T, box_4, mirror, out_THWC in zip(order_VT, box_V4, mirror_V, out_VTHWC, strict=True):
            as_they_are = np.array_equal(order_T, np.arange(len(frames_UHWC)))
            clip_THWC = resize(frames_UHWC if as_they_are else frames_UHWC[order_T], box_4, self._size)
            if mirror:
                clip_THWC = np.ascontiguousarray(clip_THWC.view("V3")[:, :, ::-1]).view(np.uint8)  # pixels as wholes
            rows_NB, out_NB = (pixels.reshape(-1, self._size * 3) for pixels in (clip_THWC, out_THWC))
            single_NB = np.multiply(rows_NB, self._scale_WC, out=out_NB if self._dtype == np.float32 else None)
            single_NB += self._shift_WC
            if single_NB is not out_NB:
                out_NB[:] = single_NB


def resize(frames_THWC: np.ndarray, box_4: np.ndarray, size: int) -> np.ndarray:
    """[T, size, size, 3] uint8: the box (left, top, right, bottom, in pixels) of each frame, antialiased.

    Pixels at the edge of a box are made from what lies around it, too, where there is something.
    """
    height, width = frames_THWC.shape[1:3]
    left, top, right, bottom = box_4.tolist()
    across, down = _Axis.fit(left, right, width, size), _Axis.fit(top, bottom, height, size)
    if across is None or down is None:
        box = left, top, min(right, width), min(bottom, height)  # a float32 may lie just beyond the edge
        pictures = [
            Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR, box) for frame in frames_THWC
        ]
        return np.stack(pictures)
    part_TCHW = torch.from_numpy(frames_THWC[:, down.inputs, across.inputs]).permute(0, 3, 1, 2)
    scaled_TCHW = torch.ops.aten._upsample_bilinear2d_aa(  # F.interpolate takes a size or a scale, not both
        part_TCHW, [down.outputs, across.outputs], False, down.scale, across.scale
    )
    return scaled_TCHW[:, :, down.outputs - size :, across.outputs - size :].permute(0, 2, 3, 1).numpy()


class _Axis(NamedTuple):
    """How torch, whose output begins where its input does, comes to know what lies before a box: it begins earlier, at
    a place that falls on a whole pixel of the output, and what comes out before the box is thrown away.
    """

    inputs: slice
    outputs: int
    scale: float

    @classmethod
    def fit(cls, low: float, high: float, limit: int, size: int) -> _Axis | None:
        """For a box from `low` to `high` of a side of `limit` pixels; None where there is no place to begin."""
        if not (low.is_integer() and high.is_integer()):
            return None
        start, end = int(low), int(high)
        steps = math.gcd(end - start, size) if start else math.inf
        start, outputs, scale = start - int((end - start) / steps), size + int(size / steps), size / (high - low)
        inputs = slice(start, min(limit, end + math.ceil(1 / scale)))
        taken_for_done = inputs.stop - start == outputs and scale != 1  # torch copies what has the right size
        return None if start < 0 or taken_for_done else cls(inputs, outputs, scale)
