"""Make clips on a CPU, in the threads that decoded them: crop and resize, mirror, normalise, as in `graph.clip_graph`.

DALI's resampling on a CPU takes several times as long as torch's, so torch resizes. Pillow resizes boxes that torch
cannot: boxes with fractional coordinates, and boxes too near to the edge of the frame (`_Axis`). The three differ by
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dali_pipes.feed.buffers import BufferPool


class ClipMaker:
    """Makes clips of `size` pixels from decoded frames, normalised by `mean` and `std` (for values in [0, 1])."""

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float], *, half: bool):
        self._size = size
        self._dtype = torch.float16 if half else torch.float32
        self._scale_WC = (1 / (255 * torch.tensor(std))).repeat(size)
        self._shift_WC = (-torch.tensor(mean) / torch.tensor(std)).repeat(size)
        self._memory = BufferPool()

    def empty(self, *shape_BVT: int) -> Tensor:
        """Return uninitialised memory for clips, BVTHWC."""
        return self._memory.tensor((*shape_BVT, self._size, self._size, 3), self._dtype)

    def make(
        self,
        pictures_U: Sequence[np.ndarray],
        order_VT: np.ndarray,
        box_V4: np.ndarray,
        mirror_V: np.ndarray,
        turn: tuple[bool, bool],
        out_VTHWC: Tensor,
    ) -> None:
        """Write the views of a video, given its U frames, into `out_VTHWC`. The arguments are those of the graph."""
        transposed, upside_down = turn
        for order_T, box_4, mirror, out_THWC in zip(order_VT, box_V4, mirror_V, out_VTHWC, strict=True):
            clip_THWC = resize([pictures_U[place] for place in order_T], box_4, self._size)
            if transposed:
                clip_THWC = clip_THWC.transpose(1, 2)
            if flips := [axis for axis, flip in ((1, upside_down), (2, mirror)) if flip]:
                clip_THWC = clip_THWC.flip(flips)
            for picture_HWC, out_HWC in zip(clip_THWC, out_THWC, strict=True):  # one by one: fits in the cache
                self._normalise(picture_HWC.flatten(1), out_HWC.flatten(1))

    def _normalise(self, picture_HN: Tensor, out_HN: Tensor) -> None:
        """Normalise rows of W x C values to mean 0 and deviation 1 per channel, in fp32."""
        single_HN = out_HN if self._dtype == torch.float32 else torch.empty(out_HN.shape)
        single_HN.copy_(picture_HN)
        torch.addcmul(self._shift_WC, single_HN, self._scale_WC, out=single_HN)
        if single_HN is not out_HN:
            out_HN.copy_(single_HN)


def resize(pictures_T: Sequence[np.ndarray], box_4: np.ndarray, size: int) -> Tensor:
    """Crop and resize the box (left, top, right, bottom, in pixels) of each [H, W, 3] frame, with antialiasing, to [T,
    size, size, 3] uint8.

    The filter of pixels at the edge of a box also reads the pixels around the box, if there are any.
    """
    height, width = pictures_T[0].shape[:2]
    left, top, right, bottom = box_4.tolist()
    across, down = _Axis.fit(left, right, width, size), _Axis.fit(top, bottom, height, size)
    if across is None or down is None:
        box = left, top, min(right, width), min(bottom, height)  # a float32 coordinate may lie just beyond the edge
        resized = [Image.fromarray(p).resize((size, size), Image.Resampling.BILINEAR, box) for p in pictures_T]
        return torch.from_numpy(np.stack(resized))
    part_THWC = np.stack([picture[down.inputs, across.inputs] for picture in pictures_T])
    scaled_TCHW = torch.ops.aten._upsample_bilinear2d_aa(  # F.interpolate accepts a size or a scale, not both
        torch.from_numpy(part_THWC).permute(0, 3, 1, 2), [down.outputs, across.outputs], False, down.scale, across.scale
    )
    return scaled_TCHW[:, :, down.outputs - size :, across.outputs - size :].permute(0, 2, 3, 1)


class _Axis(NamedTuple):
    """One axis of the input of torch's resampler: the box and a margin around it.

    The antialiasing filter of an output pixel at the edge of the box reads input pixels beyond that edge, so torch
    needs them as input. Its output then also contains the margin, which is cut off:

        picture   |..........MMMM[BBBBBBBBBBBBBBBBBBBB]mmmm......|
        inputs               |<------------------------>|          M: `margin`, m: one output pixel's width
        outputs              mm[bbbbbbbbbb]                         m: `cut_off`, a whole number of pixels

    A margin M has to map to whole output pixels, so it is the box's length divided by gcd(length, size). If the frame
    has no room for it before the box, Pillow resizes the box.
    """

    inputs: slice  # input pixels
    outputs: int  # output pixels, up to the end of the box
    scale: float  # output pixels per input pixel

    @classmethod
    def fit(cls, low: float, high: float, limit: int, size: int) -> _Axis | None:
        """Return the input for a box from `low` to `high` on an axis of `limit` pixels, resized to `size`; None if
        torch cannot.
        """
        if not (low.is_integer() and high.is_integer()):
            return None
        start, end = int(low), int(high)
        length = end - start
        parts = math.gcd(length, size)  # the smallest margin that is a whole number of pixels before and after resizing
        margin, cut_off = (length // parts, size // parts) if start else (0, 0)
        inputs = slice(start - margin, min(limit, end + math.ceil(length / size)))
        outputs = size + cut_off
        copied = inputs.stop - inputs.start == outputs and length != size  # torch then skips resizing
        return None if inputs.start < 0 or copied else cls(inputs, outputs, size / length)
