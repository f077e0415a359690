"""One video as a folder of JPEG pictures, numbered from 1 on: every frame once, upright, at the size it has."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.video.frame_folders import picture_name, probe_folder
from dali_pipes.video.packet_table import Video
from dali_pipes.video.pyav import reformat
from tools.data import upright as pictures


@dataclass(frozen=True)
class Settings:
    """How pictures are stored."""

    quality: int = 95  # of JPEG, from 1 to 100
    pattern: str = Data.frame_pattern


def write_pictures(video: Video, target: str, settings: dict) -> dict:
    """Store the frames of a video in a new folder `target`, check them, and say what was done. See `Settings`.

    Raises DataError where a picture of the source is damaged, or the result is not as it should be.
    """
    settings = Settings(**settings)
    os.mkdir(target)
    reformatter, matrix_33, number = VideoReformatter(), None, -1
    for number, frame in enumerate(pictures.decoded(video.path)):
        if matrix_33 is None:
            matrix_33 = pictures.orientation(frame)
        rgb_HWC = reformat(reformatter, frame, format="rgb24", interpolation=pictures.CAREFUL).to_ndarray()
        upright_HWC = np.ascontiguousarray(pictures.turned(rgb_HWC, matrix_33))
        path = os.path.join(target, picture_name(settings.pattern, number))
        Image.fromarray(upright_HWC).save(path, "JPEG", quality=settings.quality)
    if number + 1 != video.frames:
        raise DataError(video.path, f"gave {number + 1} frames where the scan saw {video.frames}")
    probe_folder(target, "full", settings.pattern, video.frames)
    sizes = [entry.stat().st_size for entry in os.scandir(target)]
    upright = pictures.is_upright(matrix_33)
    return {"frames": video.frames, "bytes": sum(sizes), "changes": [] if upright else ["turned upright"]}
