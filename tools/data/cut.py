"""Make a file of each part of a video that a list names by `start` and `end`, in seconds.

A clip has exactly the frames that are shown at its start or later and before its end (docs/data.md). It is encoded
again, as by `transcode`: a copy of the packets could only begin at a keyframe. Training reads parts without this.
Writes FOLDER/LIST.list; what cannot be cut is in left_out.jsonl.
"""

from __future__ import annotations

import argparse

from tools.data.conversion.command import add_conversion_arguments, convert_datasets
from tools.data.conversion.convert import Conversion
from tools.data.conversion.reencode import write_part
from tools.data.transcode import add_encoding_arguments, encoding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_conversion_arguments(parser)
    add_encoding_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    convert_datasets(arguments, Conversion(write_part, encoding(arguments), ".mp4", by_part=True))
