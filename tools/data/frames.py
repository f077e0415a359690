"""Extract videos to folders of JPEG frames, for `data.decoder: jpeg` and for other programs.

Writes a parallel tree with lists of `folder frames label` lines. Results of an earlier run are kept. Videos that cannot
be read are left out of the new lists, and listed with the reason in left_out.jsonl. Frames take several times the space
of the videos: docs/data.md compares.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from operator import itemgetter

from configs import ConfigError
from tools.data.convert import Conversion, add_conversion_arguments, convert_datasets
from tools.data.extract import Settings, write_pictures


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
