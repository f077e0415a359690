"""Videos kept as folders of JPEG pictures, numbered from 1 on: the scan of one, and reading some of its pictures.

The form of PaddleVideo's and mmaction2's lists of frames. Decodes only to check; a scan looks at the names of all
pictures and into the first one.
"""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from dali_pipes.errors import DataError
from dali_pipes.probe import Check
from dali_pipes.video import PACKET, Video

FIRST = 1  # the number of the first picture
_SHOWN = 3  # missing pictures that are named


def probe_folder(path: str, check: Check, pattern: str, frames: int) -> Video:
    """Scan a folder of pictures with names by `pattern`; `frames`: how many the list says there are, 0 if it does not.

    Raises DataError with the path and a reason where pictures are missing or cannot be used. `ends` also decodes the
    first and the last picture, `full` all of them.
    """
    try:
        status = os.stat(path)
        present = set(os.listdir(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    count = frames or _highest(present, pattern)
    missing = [name for number in range(count) if (name := picture_name(pattern, number)) not in present]
    if not count or len(missing) == count:
        raise DataError(f"{path}: holds no {picture_name(pattern, 0)}; is data.frame_pattern={pattern} right?")
    if missing:
        some = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise DataError(f"{path}: {len(missing)} of {count} pictures are missing: {some}")
    numbers = {"demux": [0], "ends": sorted({0, count - 1}), "full": range(count)}[check]
    sizes = {_size(path, picture_name(pattern, number), decode=check != "demux") for number in numbers}
    if len(sizes) > 1:
        raise DataError(f"{path}: its pictures change size: {', '.join(f'{w}x{h}' for w, h in sorted(sizes))}")
    return Video(
        path,
        *sizes.pop(),
        frames=count,
        fps=0.0,
        codec="mjpeg",
        access="frames",
        description=pattern.encode(),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        packets=np.zeros(0, PACKET),
    )


def read_pictures(video: Video, frames: np.ndarray) -> list[np.ndarray]:
    """The JPEG files of these frames, as uint8 [bytes] each. Raises DataError naming one that is not there."""
    pattern = video.description.decode()
    pictures = []
    for number in frames.tolist():
        path = os.path.join(video.path, picture_name(pattern, number))
        try:
            pictures.append(np.fromfile(path, np.uint8))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); it was there when scanned") from error
        if not pictures[-1].size:
            raise DataError(f"{path}: is empty (0 bytes)")
    return pictures


def picture_name(pattern: str, frame: int) -> str:
    """The file name of a frame; frames count from 0, files from FIRST."""
    return pattern.format(frame + FIRST)


def _highest(present: set[str], pattern: str) -> int:
    """How many pictures there are if none is missing: the highest number that a name has."""
    before, after = pattern[: pattern.index("{")], pattern[pattern.rindex("}") + 1 :]
    numbers = [name[len(before) : len(name) - len(after)] for name in present if name.startswith(before)]
    return max((int(n) for n in numbers if n.isdecimal() and pattern.format(int(n)) in present), default=0)


def _size(folder: str, name: str, *, decode: bool) -> tuple[int, int]:
    """Width and height of a picture; raises DataError where it is none, or none that decodes."""
    try:
        with Image.open(os.path.join(folder, name)) as picture:
            if decode:
                picture.load()
            if picture.format == "JPEG":
                return picture.size
            raise DataError(f"{folder}: {name} is {picture.format}, not JPEG")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{folder}: {name} is damaged, or not a picture ({error})") from error
