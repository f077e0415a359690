"""A plain implementation of the published views: decode the whole file, resize whole pictures with Pillow, then crop.

It follows MIT's TSM and PaddleVideo and shares no code with this project.
"""

import av
import numpy as np
from PIL import Image

from dali_pipes.video.pyav import LENIENT_TAGS


def clips_of(path, *, rule, clips, crops, T, short_side, side, squash=False):
    """Return uint8 [V, T, side, side, 3]: every crop of the first clip, then of the next."""
    pictures = [resized(Image.fromarray(picture), short_side, squash) for picture in decode_upright(path)]
    views = [
        [cropped(pictures[frame], box, mirrored) for frame in frames]
        for frames in frames_of(len(pictures), rule, clips, T)
        for box, mirrored in boxes_of(pictures[0].size, crops, side)
    ]
    return np.array(views)


def decode_upright(path):
    """Decode a whole file, with each picture rotated as its file says; mirrors are not applied."""
    with av.open(str(path), **LENIENT_TAGS) as container:
        container.streams.video[0].codec_context.thread_count = 1
        turned = [(frame.to_ndarray(format="rgb24"), frame.rotation) for frame in container.decode(video=0)]
        return [np.rot90(picture, rotation // 90) for picture, rotation in turned]


def resized(picture, short_side, squash):
    """Resize to that short side; the long side is rounded down, or 4/3 of it. Pillow's bilinear is antialiased."""
    width, height = picture.size
    if squash and min(picture.size) != short_side:
        long_side = int(short_side * 4 / 3)
        size = (short_side, long_side) if width < height else (long_side, short_side)
        return picture.resize(size, Image.Resampling.BILINEAR)
    if width < height:
        return picture.resize((short_side, height * short_side // width), Image.Resampling.BILINEAR)
    return picture.resize((width * short_side // height, short_side), Image.Resampling.BILINEAR)


def frames_of(n, rule, clips, T):
    """Return the frames of each clip of a video of n frames."""
    centers = [int(n / T / 2 + n / T * i) for i in range(T)]
    lefts = [int(n / T * i) for i in range(T)]
    if rule == "uniform":
        return [centers, lefts][:clips]
    starts = np.linspace(0, max(1, n - 63) - 1, num=clips, dtype=int)
    return [centers if n < T else [(start + i * (64 // T)) % n for i in range(T)] for start in starts.tolist()]


def boxes_of(size, crops, side):
    """Return (left, top, right, bottom) and whether it is mirrored, for every crop of a picture of this size."""
    width, height = size
    x, y = (width - side) // 4, (height - side) // 4
    if crops == "center":
        corners = [(round((width - side) / 2), round((height - side) / 2))]
    elif crops == "three":
        corners = [(0, 2 * y), (4 * x, 2 * y), (2 * x, 2 * y)]
        if width < height:  # MIT's code shows the middle three times; this is mmaction2's rule
            corners = [(2 * x, 0), (2 * x, 4 * y), (2 * x, 2 * y)]
    else:
        corners = [(0, 0), (4 * x, 0), (0, 4 * y), (4 * x, 4 * y), (2 * x, 2 * y)]
    mirrors = [False, True] if crops == "ten" else [False]
    return [((left, top, left + side, top + side), mirror) for left, top in corners for mirror in mirrors]


def cropped(picture, box, mirrored):
    """Return a part of a picture, [side, side, 3]."""
    part = np.asarray(picture.crop(box))
    return part[:, ::-1] if mirrored else part
