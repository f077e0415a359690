"""Prepare data: python tools/prepare.py COMMAND ...

    demo   write the generated demo set
    split  split a table of videos into a training and a held-out list
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.demo_set import write_demo_set
from tools.split_list import split_table


def demo(arguments: argparse.Namespace) -> None:
    train, val = arguments.scenes
    files = write_demo_set(arguments.out, {"train": train, "val": val})
    print(f"{files} videos of {train} training and {val} held-out scenes in {arguments.out}")


def split(arguments: argparse.Namespace) -> None:
    try:
        counts = split_table(arguments.table, arguments.group, arguments.held_out, arguments.out, arguments.seed)
    except (OSError, ValueError) as error:
        sys.exit(f"prepare split: {error}")
    print(f"{counts['train']} videos to train on and {counts['val']} held out, lists in {arguments.out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("demo", help="write the generated demo set")
    command.add_argument("--out", type=Path, default=Path("data/demo"), help="folder to write to (%(default)s)")
    command.add_argument("--scenes", type=int, nargs=2, default=(120, 40), metavar=("TRAIN", "VAL"))
    command.set_defaults(run=demo)

    command = commands.add_parser("split", help="split a table of videos, whole groups on one side")
    command.add_argument("table", type=Path, help="CSV with a header: path, label and the column of --group")
    command.add_argument("--group", required=True, help="column whose equal values stay on one side")
    command.add_argument("--held-out", type=float, default=0.2, help="fraction of the videos (%(default)s)")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", type=Path, required=True, help="folder for the lists")
    command.set_defaults(run=split)

    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
