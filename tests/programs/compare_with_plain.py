"""Compare files with a plain sequential decode by the same FFmpeg, frame by frame and at every thoroughness of a scan.

    python tests/programs/compare_with_plain.py FILE...|FOLDER... [--draws N]

One line a file and check; exits with 1 if a frame differs, or a video that the scan accepted cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from dali_pipes.scan.request import CHECKS
from tests.support.plain import compare


def main(words: list[str]) -> int:
    """Compare all files named on the command line; folders are searched."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path, help="files, and folders of files")
    parser.add_argument("--draws", type=int, default=20, help="random clips of a video of more than 64 frames")
    parser.add_argument("--check", choices=CHECKS, action="append", help="default: all")
    args = parser.parse_args(words)
    counts = Counter()
    files = [file for path in args.paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    for path in filter(Path.is_file, files):
        for check in args.check or CHECKS:
            outcome, detail = compare(str(path), check, args.draws)
            counts[check, outcome] += 1
            print(f"{outcome:9}  {check:5}  {path}: {detail}", flush=True)
    for (check, outcome), count in sorted(counts.items()):
        print(f"{check}: {count} {outcome}")
    return int(any(outcome in ("wrong", "miscounted", "lost") for _, outcome in counts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
