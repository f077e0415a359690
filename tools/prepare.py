"""Prepare data: python tools/prepare.py demo ...

demo   write the generated demo set
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.demo_set import write_demo_set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="write the generated demo set")
    demo.add_argument("--out", type=Path, default=Path("data/demo"), help="folder to write to (default: %(default)s)")
    demo.add_argument("--scenes", type=int, nargs=2, default=(120, 40), metavar=("TRAIN", "VAL"))
    arguments = parser.parse_args()
    train, val = arguments.scenes
    files = write_demo_set(arguments.out, {"train": train, "val": val})
    print(f"{files} videos of {train} training and {val} held-out scenes in {arguments.out}")


if __name__ == "__main__":
    main()
