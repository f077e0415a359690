"""Make film strips: a few frames of a video, side by side, as an image for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from PIL import Image

from dali_pipes.video.frame_folders import upright

FRAMES, HEIGHT, GAP = 6, 90, 2  # height of a strip in pixels
PICTURES = {".jpg", ".jpeg", ".png"}


def film_strip(path: str, start: float = 0.0, end: float | None = None) -> Image.Image | None:
    """Return a strip of a video, or of a folder of frames; None if it cannot be read.

    `start`, `end`: the part to show, in seconds from the first frame; by default all of it.
    """
    try:
        frames = list(_of_folder(Path(path)) if Path(path).is_dir() else _of_video(path, start, end))
    except (OSError, av.FFmpegError):
        return None
    return join(frames) if frames else None


def join(frames: list[Image.Image]) -> Image.Image:
    """Put frames side by side, scaled to the height of a strip."""
    scaled = [frame.resize((max(1, round(frame.width * HEIGHT / frame.height)), HEIGHT)) for frame in frames]
    edges = np.cumsum([0, *(frame.width + GAP for frame in scaled)]).tolist()
    strip = Image.new("RGB", (edges[-1] - GAP, HEIGHT), "white")
    for frame, (left, _) in zip(scaled, pairwise(edges), strict=True):
        strip.paste(frame, (left, 0))
    return strip


def data_uri(image: Image.Image) -> str:
    """Return an image as a JPEG inside a URI."""
    content = io.BytesIO()
    image.save(content, "jpeg", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _of_folder(folder: Path) -> Iterator[Image.Image]:
    names = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    for place in _spread(len(names)):
        with Image.open(names[place]) as picture:
            yield upright(picture).convert("RGB")


def _of_video(path: str, start: float, end: float | None) -> Iterator[Image.Image]:
    """Yield evenly spaced upright frames of a part; for a video of unknown length, its first frames."""
    with av.open(path) as file:
        stream = file.streams.video[0]
        stream.thread_type = "AUTO"
        length = stream.duration
        if not length:
            yield from (_upright(frame) for _, frame in zip(range(FRAMES), file.decode(stream), strict=False))
            return
        first, seconds = stream.start_time or 0, float(stream.time_base)
        begin = min(round(start / seconds), length)
        rest = (length if end is None else min(round(end / seconds), length)) - begin
        for part in range(FRAMES):
            wanted = first + begin + (2 * part + 1) * rest // (2 * FRAMES)
            file.seek(wanted, stream=stream)
            frame = None
            for frame in file.decode(stream):
                if frame.pts is None or frame.pts + (frame.duration or 1) > wanted:
                    break
            if frame is not None:
                yield _upright(frame)


def _upright(frame: av.VideoFrame) -> Image.Image:
    return frame.to_image().rotate(frame.rotation, expand=True) if frame.rotation else frame.to_image()


def _spread(count: int) -> list[int]:
    """Return FRAMES evenly spaced indices below `count`, or all if there are fewer."""
    return sorted({(2 * part + 1) * count // (2 * FRAMES) for part in range(FRAMES)}) if count else []
