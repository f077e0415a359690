"""Extract a video to a folder of JPEG pictures, numbered from 1: every frame, upright, at its own size."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.video import container
from dali_pipes.video.frame_folders import picture_name, probe_folder
from dali_pipes.video.orientation import UPRIGHT, orientation, turned
from dali_pipes.video.packet_table import Video
from dali_pipes.video.pyav import reformat
from tools.data import upright


@dataclass(frozen=True)
class Settings:
    """Settings of the pictures."""

    quality: int = 95  # of JPEG, from 1 to 100
    pattern: str = Data.frame_pattern


def write_pictures(video: Video, target: str, settings: dict) -> dict:
    """Write the frames of a video to a new folder `target`, verify them, and return the record. See `Settings`.

    Raises DataError if a frame of the source is damaged, or the verification fails.
    """
    settings = Settings(**settings)
    os.mkdir(target)
    reformatter, turn, number = VideoReformatter(), None, -1
    for number, frame in enumerate(upright.decoded(video.path)):
        if turn is None:
            turn = orientation(frame)
        with container.refusals(video.path):
            rgb_HWC = reformat(reformatter, frame, format="rgb24", interpolation=upright.CAREFUL).to_ndarray()
        upright_HWC = np.ascontiguousarray(turned(rgb_HWC, turn))
        path = os.path.join(target, picture_name(settings.pattern, number))
        Image.fromarray(upright_HWC).save(path, "JPEG", quality=settings.quality)
    if number + 1 != video.frames:
        raise DataError(video.path, f"gave {number + 1} frames where the scan saw {video.frames}")
    probe_folder(target, "full", settings.pattern, video.frames)
    sizes = [entry.stat().st_size for entry in os.scandir(target)]
    changes = [] if turn == UPRIGHT else ["turned upright"]
    return {"frames": video.frames, "bytes": sum(sizes), "changes": changes}
