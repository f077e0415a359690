"""Measure the shift: python benchmarks/shift.py [SECTION ...] [--device gpu|cpu|small] [--out FOLDER] [--keep]

    layers      each shifting convolution alone: is it faster with the shift folded in?
    steps       a training step with each form of the shift and without one, eager and compiled
    inference   the deployed network
    kernels     the kernels of a training step

Writes one line per case to FOLDER/shift.jsonl and to stdout, and a readable line to stderr. FOLDER/fold_table.jsonl is
models/shift/fold_table.jsonl with the rows of this device; `--keep` replaces the latter. A case that fails is recorded
with the command that repeats it alone; the others continue. `--device small` is a rehearsal.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from itertools import accumulate
from pathlib import Path

BEGAN = time.monotonic()
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SECTIONS = {"layers": 30, "steps": 45, "inference": 18, "kernels": 7}  # shares of the total time


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION")
    parser.add_argument("--device", choices=("gpu", "cpu", "small"), default="gpu")
    parser.add_argument("--out", type=Path, default=Path("runs/shift"), help="folder of the records (%(default)s)")
    parser.add_argument("--seconds", type=float, default=560, help="total time limit (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PART", help="run only cases whose name contains one of these"
    )
    parser.add_argument("--keep", action="store_true", help="write the rows into models/shift/fold_table.jsonl")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - SECTIONS.keys():
        parser.error(f"{sorted(unknown)[0]}: no such section; there are {', '.join(SECTIONS)}")
    return arguments


if __name__ == "__main__":  # before the imports below, which take seconds: --help and mistakes are answered at once
    ARGUMENTS = parse()

from benchmarks.harness.record import Recorder
from benchmarks.harness.session import Probe, run_sections
from benchmarks.network.scale import SCALES
from models.shift import measured

PATIENCE = 240  # seconds: a case may have to compile a whole network


def main(arguments: argparse.Namespace) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    recorder = Recorder("shift", arguments.out / "shift.jsonl")
    command = f"python benchmarks/shift.py --device {arguments.device}"
    folder = arguments.out.absolute()
    probe = Probe(SCALES[arguments.device], folder, recorder, arguments.only, command, PATIENCE)
    asked = [name for name in SECTIONS if name in (arguments.sections or SECTIONS)]
    ends = list(accumulate(SECTIONS[name] for name in asked))
    shares = {name: end / ends[-1] for name, end in zip(asked, ends, strict=True)}
    run_sections(probe, "benchmarks.network", shares, arguments.seconds, BEGAN)
    recorder.close()
    if arguments.keep:
        shutil.copy(folder / measured.FILE.name, measured.FILE)


if __name__ == "__main__":
    main(ARGUMENTS)
