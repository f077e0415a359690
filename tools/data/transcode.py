"""Transcode videos for fast reading: small, upright, in short closed groups of pictures, without B-frames and audio.

Writes a parallel tree with lists. Results of an earlier run are kept. Videos that cannot be read are left out of the
new lists, and listed with the reason in left_out.jsonl. docs/data.md compares the settings.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from configs import ConfigError
from configs.cli import at_least
from tools.data.conversion.command import add_conversion_arguments, convert_datasets
from tools.data.conversion.convert import Conversion
from tools.data.conversion.reencode import ENCODERS, Settings, frame_rate, write_video

_QUALITIES = ", ".join(f"{codec} {encoder.quality}" for codec, encoder in ENCODERS.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_conversion_arguments(parser)
    add_encoding_arguments(parser)


def add_encoding_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the size, the keyframe interval, the codec and its quality."""
    parser.add_argument("--short-side", type=at_least(1), default=Settings.short_side, help="in pixels (%(default)s)")
    parser.add_argument("--upscale", action="store_true", help="enlarge smaller videos")
    parser.add_argument(
        "--gop", type=at_least(1), default=Settings.gop, help="frames from keyframe to keyframe (%(default)s)"
    )
    parser.add_argument("--codec", choices=list(ENCODERS), default=Settings.codec, help="(%(default)s)")
    parser.add_argument("--crf", type=int, help=f"quality on the encoder's scale, lower is better ({_QUALITIES})")


def encoding(arguments: argparse.Namespace) -> dict:
    """Return the `Settings` that the arguments ask for. Raises ConfigError for a quality that the codec lacks."""
    encoder = ENCODERS[arguments.codec]
    crf = encoder.quality if arguments.crf is None else arguments.crf
    if not encoder.best <= crf <= encoder.worst:
        raise ConfigError(
            f"--crf: {crf} is not between {encoder.best} and {encoder.worst}, which {arguments.codec} has"
        )
    return asdict(Settings(arguments.codec, arguments.short_side, arguments.upscale, arguments.gop, crf))


def run(arguments: argparse.Namespace) -> None:
    convert_datasets(arguments, Conversion(write_video, encoding(arguments), ".mp4", rate=frame_rate))
