"""Write videos with captions as H.264 in mp4: every frame once, with its timestamp, upright, at its size.

Audio is omitted. Odd sides are enlarged by one pixel, since H.264 players expect even ones.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from configs import ConfigError
from dali_pipes import DataError
from dali_pipes.cut import decode
from dali_pipes.feed.decoders import JPEG
from dali_pipes.video import times
from dali_pipes.video.orientation import orientation, turned
from dali_pipes.video.packet_table import Video
from dali_pipes.video.pyav import reformat
from engine.files import temporary_path
from engine.outputs import Outputs
from tools.data.conversion import upright

_OPTIONS = {"preset": "veryfast", "crf": "20"}
_BT601 = 6  # matrix coefficients of ITU-T H.273
_LINES, _SMALLEST = 14, 8  # (lines of text that fill a frame, pixels of the smallest font)
_SHADE = (0, 0, 0, 160)
_CLOCK = 90_000  # ticks per second, a multiple of all usual frame rates
_MOMENT = 1e-4  # seconds; captions start at times that were rounded


class Caption(NamedTuple):
    """A text that is drawn from `start`, in seconds from the first frame, until the next caption."""

    start: float
    text: str


Draw = Callable[[np.ndarray, float], np.ndarray]  # picture_HWC and its second -> picture_HWC


def write(
    video: Video, target: Path, captions: Sequence[Caption], outputs: Outputs | None = None, draw: Draw | None = None
) -> None:
    """Write a video with captions to `target`, atomically; `draw` may change each picture first.

    Raises DataError if a frame is damaged, or the target cannot be written, ConfigError if a file is in the way.
    """
    try:
        with temporary_path(target.parent) as unfinished:
            with av.open(str(unfinished), "w", format="mp4", options={"movflags": "faststart"}) as out:
                _write(out, video, captions, draw)
            (outputs or Outputs()).place(unfinished, target)
    except (OSError, av.FFmpegError) as error:
        raise DataError(target, f"cannot be written: {error.strerror}") from error


def _write(out: OutputContainer, video: Video, captions: Sequence[Caption], draw: Draw | None) -> None:
    stream, reformatter = None, VideoReformatter()
    starts = [caption.start for caption in captions]
    for second, picture_HWC in zip(times.frame_times(video).tolist(), _upright(video), strict=False):
        stream = stream or _add_stream(out, picture_HWC, video.fps)
        caption = captions[max(0, bisect_right(starts, second + _MOMENT) - 1)]
        picture_HWC = draw(picture_HWC, second) if draw else picture_HWC
        frame = av.VideoFrame.from_ndarray(_captioned(picture_HWC, caption.text), format="rgb24")
        frame = reformat(
            reformatter, frame, format="yuv420p", dst_colorspace=Colorspace.ITU601, interpolation=upright.CAREFUL
        )
        frame.pts, frame.time_base = round(second * _CLOCK), Fraction(1, _CLOCK)
        out.mux(stream.encode(frame))
    if stream is None:
        raise DataError(video.path, "none of its pictures can be decoded")
    out.mux(stream.encode(None))


def _upright(video: Video) -> Iterator[np.ndarray]:
    """Yield each frame as [H, W, 3] uint8, upright, with even sides."""
    for picture_HWC in _of_folder(video) if video.access == "frames" else _of_file(video.path):
        odd = [(0, side % 2) for side in picture_HWC.shape[:2]]
        yield np.pad(picture_HWC, [*odd, (0, 0)], mode="edge")


def _of_folder(video: Video) -> Iterator[np.ndarray]:
    for frame in range(video.frames):
        yield from JPEG.content(video, np.array([frame]), None, None).frames


def _of_file(path: str) -> Iterator[np.ndarray]:
    reformatter, turn = VideoReformatter(), None
    for frame in upright.decoded(path):
        turn = orientation(frame) if turn is None else turn
        yield turned(decode.to_rgb(frame, reformatter), turn)


def _add_stream(out: OutputContainer, picture_HWC: np.ndarray, fps: float) -> VideoStream:
    rate = Fraction(fps).limit_denominator(1001) or Fraction(times.USUAL_FPS)
    stream = out.add_stream("libx264", rate=rate, options=_OPTIONS)
    stream.height, stream.width, _ = picture_HWC.shape
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, _CLOCK)
    stream.codec_context.colorspace = _BT601
    return stream


def _captioned(picture_HWC: np.ndarray, text: str) -> np.ndarray:
    """Return a copy of the picture with the text at its lower left."""
    image = Image.fromarray(picture_HWC)
    label = _label(text, *image.size)
    image.paste(label, (0, image.height - label.height), label)
    return np.asarray(image)


@lru_cache(maxsize=16)
def _label(text: str, width: int, height: int) -> Image.Image:
    """Draw white text on a dark background, as large as fits into a picture of this size."""
    size = max(_SMALLEST, height // _LINES)
    fitting = int(size * (width - size) / max(1.0, _font(size).getlength(text)))
    size = max(_SMALLEST, min(size, fitting))
    font = _font(size)
    label = Image.new("RGBA", (min(width, int(font.getlength(text)) + size), size * 3 // 2), _SHADE)
    ImageDraw.Draw(label).text((size // 2, size * 3 // 4), text, "white", font, anchor="lm")
    return label


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Load matplotlib's DejaVu, because Pillow's default font has little more than ASCII."""
    return ImageFont.truetype(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


class LabelledVideos:
    """Writes captioned videos into a folder. Raises ConfigError if the folder cannot be made."""

    def __init__(self, folder: Path, outputs: Outputs | None = None):
        self.folder = folder
        self._outputs = outputs or Outputs()
        self._taken: set[Path] = set()
        make_folder(folder, "--save-video")

    def write(self, video: Video, answer: dict) -> dict:
        """Write a captioned video; return the addition to its record: `labelled`, the new file, or `labelled_error`."""
        target = free_target(self.folder, Path(video.path).stem, ".labelled.mp4", self._taken, self._outputs)
        guesses = answer.get("segments") or [{"start": 0, **answer["top"][0]}]
        captions = [
            Caption(guess["start"], f"{guess['name']}  {100 * guess['probability']:.0f} %") for guess in guesses
        ]
        try:
            write(video, target, captions, self._outputs)
        except DataError as error:
            return {"labelled_error": error.reason_for(video.path)}
        return {"labelled": str(target)}


def make_folder(folder: Path, flag: str) -> None:
    """Make the folder that a flag names. Raises ConfigError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{flag}: {folder}: cannot be made: {error.strerror}") from error


def free_target(folder: Path, stem: str, ending: str, taken: set[Path], outputs: Outputs) -> Path:
    """Return a writable file name that no other video of this command uses; add it to `taken`."""
    numbered = (f"{stem}-{number}" for number in count(2))
    targets = (folder / f"{name}{ending}" for name in chain([stem], numbered))
    free = next(path for path in targets if path not in taken and not outputs.problem(path))
    taken.add(free)
    return free
