"""Compare randomly edited small videos with a plain decode by the same FFmpeg.

    python tests/programs/fuzz_files.py [--files 1000] [--check full] [--edits headers] [--first-seed 0] [--processes 1]

Prints a line for each file that is neither identical nor refused, and the counts. Exits with 1 if a frame is wrong, the
scan crashes or hangs or, at check=full, a video has another number of frames or cannot be read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from dali_pipes.scan.request import CHECKS
from tests.support.fuzz import EDITS, fuzz, summary, write_sources


def main(words: list[str]) -> int:
    """Run the fuzzer as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--check", choices=CHECKS, default="full")
    parser.add_argument("--edits", choices=EDITS, default=EDITS[0])
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args(words)
    counts = Counter()
    with tempfile.TemporaryDirectory() as folder:
        sources = write_sources(Path(folder))
        seeds = range(args.first_seed, args.first_seed + args.files)
        for seed, source, outcome, detail in fuzz(sources, seeds, args.check, args.processes, args.edits):
            counts[outcome] += 1
            if outcome not in ("identical", "refused"):
                print(f"{outcome}  seed {seed}, {Path(source).name}: {detail}", flush=True)
            if sum(counts.values()) % 1000 == 0:
                print(f"check={args.check}, edits={args.edits}: {summary(counts)}", flush=True)
    print(f"check={args.check}, edits={args.edits}: {summary(counts)}")
    failures = ("wrong", "crash", "hang", *(("miscounted", "lost") if args.check == "full" else ()))
    return int(any(counts[outcome] for outcome in failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
