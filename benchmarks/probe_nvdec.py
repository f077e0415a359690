"""What NVDEC does on this machine: python benchmarks/probe_nvdec.py [--out FOLDER] [--seconds 280] [--device gpu|cpu]

Does DALI decode the cut files on the GPU, does it give the right frames, and how fast? Five questions, each a section:
library, frames (with variants, colours, and the awkward videos that training does not give it), speed, feed, demo.
Writes FOLDER/probe_nvdec.jsonl, a line a case as it comes, the same to stdout, and a readable line to stderr. A case
that fails is recorded with the command that shows it alone; nothing stops the rest. `--device cpu` asks DALI's CPU
decoder the same at toy size: a rehearsal.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.record import Recorder
from benchmarks.harness.session import Probe, run_sections
from benchmarks.nvdec.scale import SCALES

# A module of benchmarks.nvdec, which owns the question, and by when it has to be answered, as a part of the whole time.
SECTIONS = {"library": 0.08, "frames": 0.31, "speed": 0.6, "feed": 0.8, "demo": 1.0}


def main() -> None:
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "probe_nvdec.jsonl"
    recorder = Recorder("probe_nvdec", file)
    videos = arguments.videos.absolute() / arguments.device
    command = f"python benchmarks/probe_nvdec.py --device {arguments.device}"
    probe = Probe(SCALES[arguments.device], videos, recorder, arguments.only, command)
    run_sections(probe, "benchmarks.nvdec", SECTIONS, arguments.seconds)
    recorder.close()
    print(f"Everything is in {file}; what is worth keeping goes to benchmarks/results.", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/probe_nvdec"), help="folder of the records (%(default)s)"
    )
    parser.add_argument(
        "--videos", type=Path, default=Path("data/probe_nvdec"), help="folder of the videos made for it (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=280, help="time for everything (%(default)s)")
    parser.add_argument("--device", choices=SCALES, default="gpu")
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="cases whose name contains one of these")
    return parser.parse_args()


if __name__ == "__main__":
    main()
