"""Test and measure NVDEC: python benchmarks/probe_nvdec.py [--out FOLDER] [--seconds 280] [--device gpu|cpu]

Does DALI decode the cut files on the GPU, are the frames right, and how fast is it? Five sections: library, frames
(with variants, colours, and the difficult videos that training does not give to NVDEC), speed, feed, demo. Writes one
line per case to FOLDER/probe_nvdec.jsonl and to stdout, and a readable line to stderr. A case that fails is recorded
with the command that repeats it alone; the others continue. `--device cpu` is a rehearsal at toy size with DALI's CPU
decoder.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

BEGAN = time.monotonic()
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.record import Recorder
from benchmarks.harness.session import Probe, run_sections
from benchmarks.nvdec.scale import SCALES

# A module of benchmarks.nvdec, and the deadline of its section as a share of the whole time.
SECTIONS = {"library": 0.08, "frames": 0.31, "speed": 0.6, "feed": 0.8, "demo": 1.0}


def main() -> None:
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "probe_nvdec.jsonl"
    recorder = Recorder("probe_nvdec", file)
    videos = arguments.videos.absolute() / arguments.device
    command = f"python benchmarks/probe_nvdec.py --device {arguments.device}"
    probe = Probe(SCALES[arguments.device], videos, recorder, arguments.only, command)
    run_sections(probe, "benchmarks.nvdec", SECTIONS, arguments.seconds, BEGAN)
    recorder.close()
    print(f"Everything is in {file}; what is worth keeping goes to benchmarks/results.", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/probe_nvdec"), help="folder of the records (%(default)s)"
    )
    parser.add_argument(
        "--videos", type=Path, default=Path("data/probe_nvdec"), help="folder for the generated videos (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=280, help="total time limit (%(default)s)")
    parser.add_argument("--device", choices=SCALES, default="gpu")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PART", help="run only cases whose name contains one of these"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
