"""Write the generated demo set: videos that pan up, down, left or right, with a training and a held-out list."""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.demo_set import write_demo_set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="folder to write to (%(default)s)")
    parser.add_argument("--scenes", type=int, nargs=2, default=(120, 40), metavar=("TRAIN", "VAL"))


def run(arguments: argparse.Namespace) -> None:
    train, val = arguments.scenes
    files = write_demo_set(arguments.out, {"train": train, "val": val})
    print(f"{files} videos of {train} training and {val} held-out scenes in {arguments.out}")
