"""Say what scanned sets are like: classes, lengths, sizes, codecs, keyframes, and what transcoding would bring.

Ranges are from the 5th to the 95th of 100 videos, around the median.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from dali_pipes.scan import summary
from dali_pipes.scan.build import load_catalog
from tools.dataset_arguments import add_dataset_arguments, datasets
from tools.survey import survey


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_arguments(parser)
    parser.add_argument("--clip-frames", type=int, default=8, help="frames per clip (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    for source, data in datasets(arguments):
        catalog = load_catalog(source, replace(data, max_bad_fraction=1.0))
        print(f"{source}: {len(catalog)} rows, {len(summary.bad_files(catalog))} of their files unreadable")
        found = list(survey(catalog, arguments.clip_frames))
        width = max(len(subject) for subject, _ in found)
        print("".join(f"  {subject:{width}}  {text}\n" for subject, text in found))
