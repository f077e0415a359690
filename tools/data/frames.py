"""Extract videos to folders of JPEG frames, for `data.decoder: jpeg` and for other programs.

Writes a parallel tree with lists of `folder frames label` lines. Results of an earlier run are kept. Videos that cannot
be read are left out of the new lists, and listed with the reason in left_out.jsonl. Frames take several times the space
of the videos: docs/data.md compares.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, dataclass
from operator import itemgetter

import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from configs import ConfigError
from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.video import container
from dali_pipes.video.frame_folders import picture_name, probe_folder
from dali_pipes.video.orientation import UPRIGHT, orientation, turned
from dali_pipes.video.packet_table import Video
from dali_pipes.video.pyav import reformat
from tools.data.conversion import upright
from tools.data.conversion.command import add_conversion_arguments, convert_datasets
from tools.data.conversion.convert import Conversion


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_conversion_arguments(parser)
    parser.add_argument("--quality", type=int, default=Settings.quality, help="of JPEG, 1 to 100 (%(default)s)")
    parser.add_argument("--pattern", default=Settings.pattern, help="name of a picture by its number (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    if not 1 <= arguments.quality <= 100:
        raise ConfigError(f"--quality: {arguments.quality} is not between 1 and 100")
    settings = Settings(arguments.quality, arguments.pattern)
    reading = "data.decoder=jpeg", f"data.frame_pattern={settings.pattern}"
    conversion = Conversion(write_pictures, asdict(settings), "", itemgetter("frames"), reading)
    convert_datasets(arguments, conversion)
