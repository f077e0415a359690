"""Compute crop boxes. This module has no pixels, files or randomness.

A crop is chosen in the coordinates of the frame after scaling its short side, as in the publications of TSM and TSN,
and converted back with `to_stored`. Cropping and resizing are one resampling of the stored frame, so nothing is scaled
twice.

Where MIT TSM and PaddleVideo differ, this follows MIT: offsets are multiples of a whole-pixel step (PaddleVideo's
multi-scale steps are quarters of a pixel, so its right and bottom edges lie up to 3 px further out). PaddleVideo's TSN
scales and centres with OpenCV, which rounds differently: `opencv` selects that.

Sizes are `[B, 2]` (width, height) and boxes `[B, 4]` or `[B, N, 4]` (left, top, right, bottom), int64 until
`to_stored`.
"""

from __future__ import annotations

import numpy as np

SCALES = np.array([1, 0.875, 0.75, 0.66])
PAIRS = SCALES[[(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (2, 3), (3, 3)]]
"""[10, 2]: multi-scale widths and heights as parts of the short side: neighbours in SCALES, so never much distorted."""

CORNERS_AND_CENTER = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]
EDGES_AND_QUARTERS = [(0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]
POSITIONS = np.array(CORNERS_AND_CENTER + EDGES_AND_QUARTERS)
"""[13, 2]: fixed places of a crop (x, y), in quarters of the room that it leaves; TSN draws from the first five."""

ALONG_WIDTH = np.array([(0, 2), (4, 2), (2, 2)])
ALONG_HEIGHT = ALONG_WIDTH[:, ::-1]

TRIES = 10  # tries to fit a box of random area and ratio
SNAP = 3  # a multi-scale side that differs from the network's input by fewer pixels is set to it


def scale_short_side(
    size_B2: np.ndarray, short_side: int, *, opencv: bool = False, squashed: bool = False
) -> np.ndarray:
    """Compute [B, 2], the size after scaling the short side to `short_side`; the long side rounds down (`opencv`: half
    up).

    `squashed`: the long side is 4/3 of the short one, except where the short side needs no scaling (PP-TSM).
    """
    short_B1 = _short_side(size_B2)
    if squashed:
        upright_B1 = size_B2[:, :1] < size_B2[:, 1:]
        sides = short_side, short_side * 4 // 3
        return np.where(short_B1 == short_side, size_B2, np.where(upright_B1, sides, sides[::-1]))
    return (2 * size_B2 * short_side + opencv * short_B1) // (2 * short_B1)


def to_stored(box_BN4: np.ndarray, scaled_B2: np.ndarray, stored_B2: np.ndarray) -> np.ndarray:
    """Convert boxes from the scaled frame to pixels of the stored frame: [B, N, 4] float32."""
    scaled_B14, stored_B14 = (np.tile(size_B2, 2)[:, None] for size_B2 in (scaled_B2, stored_B2))
    return (box_BN4 * stored_B14 / scaled_B14).astype(np.float32)


def multiscale(size_B2: np.ndarray, target: int, pair_B: np.ndarray, position_B: np.ndarray) -> np.ndarray:
    """Return [B, 4], the multi-scale crops of size PAIRS[pair_B] at POSITIONS[position_B]; `target` is the network's
    input side.
    """
    short_B1 = _short_side(size_B2)
    crop_B2 = (short_B1 * PAIRS[pair_B]).astype(np.int64)
    crop_B2[np.abs(crop_B2 - target) < SNAP] = target
    crop_B2 = np.clip(crop_B2, 1, short_B1)  # frames may be slightly smaller than the target, or of a single pixel
    return _at(size_B2, crop_B2, POSITIONS[position_B])


def within(box_B4: np.ndarray, resized: int, side: int, draw_B2: np.ndarray) -> np.ndarray:
    """Return [B, 4], squares of `side` at random whole pixels of the boxes, after these are resized to `resized`
    pixels.
    """
    pixel_B2 = (box_B4[:, 2:] - box_B4[:, :2]) / resized
    left_top_B2 = box_B4[:, :2] + (draw_B2 * (resized - side + 1)).astype(np.int64) * pixel_B2
    return np.concatenate([left_top_B2, left_top_B2 + side * pixel_B2], axis=1)


def of_area(
    width_B: np.ndarray | int,
    height_B: np.ndarray | int,
    draw_BN: np.ndarray,
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Return [B, 4], boxes of random area (relative to the frame) and aspect ratio, and bool [B]: True if one fits.

    `draw_BN` has two draws for the position, then two for each of TRIES tries; the first box that fits is used. If none
    fits, the box is the whole frame. Source: torchvision's RandomResizedCrop and RandomErasing.
    """
    whole_B2 = np.broadcast_to(np.stack(np.broadcast_arrays(width_B, height_B), -1), (len(draw_BN), 2)).astype(float)
    area_BT, ratio_BT = draw_BN[:, 2::2], draw_BN[:, 3::2]
    area_BT = (area[0] + (area[1] - area[0]) * area_BT) * whole_B2.prod(1, keepdims=True)
    ratio_BT = np.exp(np.log(ratio[0]) + (np.log(ratio[1]) - np.log(ratio[0])) * ratio_BT)
    size_BT2 = np.rint(np.stack([np.sqrt(area_BT * ratio_BT), np.sqrt(area_BT / ratio_BT)], -1))
    fits_BT = ((size_BT2 >= 1) & (size_BT2 <= whole_B2[:, None])).all(-1)
    first_B, fits_B = fits_BT.argmax(1), fits_BT.any(1)
    size_B2 = np.where(fits_B[:, None], size_BT2[np.arange(len(draw_BN)), first_B], whole_B2)
    corner_B2 = (draw_BN[:, :2] * (whole_B2 - size_B2 + 1)).astype(np.int64)
    return np.concatenate([corner_B2, corner_B2 + size_B2.astype(np.int64)], 1), fits_B


def anywhere(size_B2: np.ndarray, side: int, draw_B2: np.ndarray) -> np.ndarray:
    """Return [B, 4], squares at random whole pixels, by `draw_B2` in [0, 1); smaller if the frame is smaller."""
    side_B1 = np.minimum(side, _short_side(size_B2))
    return _box((draw_B2 * (size_B2 - side_B1 + 1)).astype(np.int64), side_B1)


def center(size_B2: np.ndarray, side: int, *, opencv: bool = False) -> np.ndarray:
    """Return [B, 4], the centre squares, smaller if the frame is smaller; halves round to even (`opencv`: down)."""
    side_B1 = np.minimum(side, _short_side(size_B2))
    room_B2 = (size_B2 - side_B1) / 2
    return _box((np.floor(room_B2) if opencv else np.rint(room_B2)).astype(np.int64), side_B1)


def three(size_B2: np.ndarray, side: int) -> np.ndarray:
    """Return [B, 3, 4], squares at both ends and in the middle of the long side.

    These are MIT's "full resolution" crops. For portrait frames, MIT uses the middle three times; here, as in
    mmaction2, the crops are top, bottom and middle.
    """
    portrait_B11 = (size_B2[:, 0] < size_B2[:, 1])[:, None, None]
    return _at(size_B2[:, None], side, np.where(portrait_B11, ALONG_HEIGHT, ALONG_WIDTH))


def ten(size_B2: np.ndarray, side: int) -> np.ndarray:
    """Return [B, 10, 4], squares in the corners and the middle, each twice; the second of each pair is for
    mirroring.
    """
    return np.repeat(_at(size_B2[:, None], side, np.array(CORNERS_AND_CENTER)), 2, axis=1)


def _short_side(size_B2: np.ndarray) -> np.ndarray:
    return np.minimum(size_B2[:, :1], size_B2[:, 1:])


def _at(size: np.ndarray, crop: np.ndarray | int, quarters: np.ndarray) -> np.ndarray:
    """Return boxes of size `crop`, offset by `quarters` of the remaining space, in whole pixels per quarter. All
    broadcast.
    """
    return _box(quarters * ((size - crop) // 4), crop)


def _box(left_top: np.ndarray, crop: np.ndarray | int) -> np.ndarray:
    return np.concatenate([left_top, left_top + crop], axis=-1)
