"""Scan and read videos stored as folders of JPEG pictures, numbered from 1.

PaddleVideo and mmaction2 use lists of such folders. A scan checks the names of all pictures and opens the first.
"""

from __future__ import annotations

import io
import os
import stat
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageOps

from dali_pipes.errors import DataError, Inaccessible
from dali_pipes.video.packet_table import PACKET, Video

if TYPE_CHECKING:
    from configs.sections.data import Check

FIRST = 1  # number of the first picture
_TURNED, _ON_SIDE = range(2, 9), range(5, 9)  # orientations of EXIF
_SHOWN = 3  # most missing pictures in a message
_DIGITS = 10  # most digits of a picture's number


def probe_folder(path: str, check: Check, pattern: str, frames: int) -> Video:
    """Scan a folder of pictures named by `pattern`. `frames`: the frame count of the list, or 0.

    `ends` also decodes the first and the last picture, `full` all of them. Raises DataError if pictures are missing or
    cannot be used.
    """
    try:
        status = os.stat(path)
        present = set(os.listdir(path))
    except OSError as error:
        raise Inaccessible(path, f"cannot be read ({error.strerror})") from error
    there = _numbers(present, pattern)
    count = frames or max(there, default=0)
    there = {number for number in there if number <= count}
    if not there:
        raise DataError(path, f"contains no {picture_name(pattern, 0)}; is data.frame_pattern={pattern} right?")
    if not frames and (first := pattern.format(FIRST - 1)) in present:
        raise DataError(path, f"contains {first}, which would be lost: number its pictures from {FIRST}")
    if len(there) < count:
        missing = (
            picture_name(pattern, number - FIRST) for number in range(FIRST, count + FIRST) if number not in there
        )
        some = ", ".join(islice(missing, _SHOWN))
        raise DataError(path, f"{count - len(there)} of {count} pictures are missing, such as {some}")
    frames_to_check = {"ends": sorted({0, count - 1}), "full": range(count)}.get(check, [0])
    decode = check in ("ends", "full")
    sizes = {_size(path, picture_name(pattern, frame), decode=decode) for frame in frames_to_check}
    if len(sizes) > 1:
        raise DataError(path, f"its pictures change size: {', '.join(f'{w}x{h}' for w, h in sorted(sizes))}")
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


def read_pictures(video: Video, frames: np.ndarray) -> tuple[np.ndarray, ...]:
    """Read the JPEG files of these frames, each as uint8 [bytes]. Raises DataError if one cannot be read."""
    pattern = video.description.decode()
    names = [picture_name(pattern, frame) for frame in frames.tolist()]
    return tuple(np.frombuffer(_read(video.path, name), np.uint8) for name in names)


def picture_name(pattern: str, frame: int) -> str:
    """Return the file name of a frame; frames are numbered from 0, files from FIRST."""
    return pattern.format(frame + FIRST)


def upright(picture: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF note says, as video files are turned by their notes."""
    return ImageOps.exif_transpose(picture) if _orientation(picture) in _TURNED else picture


def _orientation(picture: Image.Image) -> int:
    """Return the orientation of the EXIF note, from 1 to 8; 1, upright, if there is no note that can be read."""
    with suppress(Exception):  # Pillow raises many kinds for damaged notes, which are no damage of the picture
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1)) if "exif" in picture.info else 1
    return 1


def _numbers(present: set[str], pattern: str) -> set[int]:
    """Return the numbers, from FIRST on, of the pictures among these file names."""
    before, after = pattern[: pattern.index("{")], pattern[pattern.index("}") + 1 :]
    digits = (name.removeprefix(before).removesuffix(after) for name in present)
    numbers = {int(number) for number in digits if number.isascii() and number.isdigit() and len(number) < _DIGITS}
    return {number for number in numbers if number >= FIRST and pattern.format(number) in present}


def _read(folder: str, name: str) -> bytes:
    """Read a picture's file, which must be a regular one and not empty."""
    try:
        # O_NONBLOCK: opening a pipe could otherwise wait for ever.
        descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            content = file.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError as error:
        raise Inaccessible(folder, f"{name} cannot be read ({error.strerror})") from error
    if not content:
        raise DataError(folder, f"{name} is empty, or not a file")
    return content


def _size(folder: str, name: str, *, decode: bool) -> tuple[int, int]:
    """Return width and height of a picture. Raises DataError if it is not a JPEG or, with `decode`, is damaged."""
    try:
        with Image.open(io.BytesIO(_read(folder, name)), formats=["JPEG"]) as picture:
            if decode:
                picture.load()
            turned = _orientation(picture) in _ON_SIDE
            return picture.size[::-1] if turned else picture.size
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(folder, f"{name} is damaged, or not a JPEG picture") from error
