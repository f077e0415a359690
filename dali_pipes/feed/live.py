"""Read frames of a camera or network stream as they arrive, and crop them as in evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor

from configs import Config
from dali_pipes.cut.decode import to_rgb
from dali_pipes.errors import DataError
from dali_pipes.feed.clip_maker import ClipMaker, resize
from dali_pipes.video import container
from dali_pipes.video.orientation import orientation, turned
from dali_pipes.views import draw

SILENCE = 30.0  # seconds without a frame after which a stream counts as finished
RTSP = {"rtsp_transport": "tcp"}  # UDP loses packets, and frames with them


def camera_device(source: str) -> str | None:
    """Return the device of a camera given by its number, or None for other sources."""
    return f"/dev/video{source}" if source.isdigit() else None


def live_frames(source: str) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds since the first frame, upright RGB frame [H, W, 3]) of a camera's number or an address.

    Raises DataError if the source cannot be opened, or fails later.
    """
    device = camera_device(source)
    path, form, options = (device, "v4l2", {}) if device else (source, None, RTSP if source.startswith("rtsp") else {})
    reformatter, first = VideoReformatter(), None
    try:
        with container.refusals(path), av.open(path, format=form, options=options, timeout=SILENCE) as opened:
            if not opened.streams.video:
                raise DataError(path, "has no video")
            for frame in opened.decode(opened.streams.video[0]):
                seconds = float(frame.time or 0.0)
                first = seconds if first is None else first
                yield seconds - first, turned(to_rgb(frame, reformatter), orientation(frame))
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror or error})") from error


class LiveCropper:
    """Makes the centre crops of evaluation from frames, and clips from such crops."""

    def __init__(self, config: Config):
        self.config = replace(config, eval=replace(config.eval, crops="center", clips=1))
        self._size = config.eval_size
        self._maker = ClipMaker(self._size, config.clip.mean, config.clip.std, half=False)

    def crop(self, picture_HWC: np.ndarray) -> np.ndarray:
        """Return the centre crop, uint8 [size, size, 3]."""
        height, width = picture_HWC.shape[:2]
        views = draw.eval_views(self.config, *(np.array([number]) for number in (0, 1, width, height)))
        return resize([picture_HWC], views.box_BV4[0, 0], self._size)[0].numpy()

    def clips_BTCHW(self, crops_T: Sequence[np.ndarray]) -> Tensor:
        """Return one normalised clip, B = 1, of T crops."""
        out_VTHWC = torch.empty(1, len(crops_T), self._size, self._size, 3)
        box_V4 = np.array([[0, 0, self._size, self._size]], np.float32)
        order_VT = np.arange(len(crops_T))[None]
        self._maker.make(crops_T, order_VT, box_V4, np.array([False]), (False, False), out_VTHWC)
        return out_VTHWC.permute(0, 1, 4, 2, 3)
