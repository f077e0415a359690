"""Arguments that benchmarks share. Imports nothing that takes long, because they are parsed before all else."""

from __future__ import annotations

import argparse
from pathlib import Path


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser that prints the module's docstring as it is written."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_clips(parser: argparse.ArgumentParser, clips: int) -> None:
    """Add the network, and the shape of a batch of `clips` clips."""
    parser.add_argument("--backbone", default="resnet50", help="backbone (%(default)s)")
    parser.add_argument("--frames", type=int, default=8, help="frames per clip (%(default)s)")
    parser.add_argument("--clips", type=int, default=clips, help="clips per batch (%(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of a frame, in pixels (%(default)s)")


def add_out(parser: argparse.ArgumentParser, file: str) -> None:
    """Add `--out`, the folder for the file of results."""
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="FOLDER", help=f"folder for {file}")
