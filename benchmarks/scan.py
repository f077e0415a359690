"""Measure the CPU time of a scan per file: python benchmarks/scan.py [VIDEO ...] [--before CHECKOUT]

Each video gets a JSON line: CPU milliseconds to scan it with the default check, file in the page cache, memory
allocated as in the processes of a scan. A video is scanned several times, as if others of its encoder had been scanned
before; with --cold, as the first of its encoder. With --before, another checkout scans the same videos in turns with
this one, and the line gives the ratio of both. Without VIDEO, videos of 300 and of 60 frames of 352x256 are generated,
with B-frames and keyframe intervals as in unconverted files.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import checkouts
from benchmarks.harness.arguments import add_out, make_parser
from benchmarks.harness.numbered_videos import VideoSpec, write_videos
from benchmarks.harness.record import Recorder
from dali_pipes.scan.processes import ENVIRONMENT

MADE = [
    VideoSpec(codec, 250, b_frames, frames=frames)
    for codec, b_frames in (("h264", 3), ("hevc", 3), ("vp9", 0), ("mpeg4", 0), ("mjpeg", 0))
    for frames in (300, 60)
]
SCANS = 8  # of a video in a turn

_SCRIPT = f"""
try:
    from dali_pipes.scan.probe import probe as task
except ImportError:  # as the module was called before
    from dali_pipes.probe import probe as task
modules = [module for name, module in sys.modules.items() if name.startswith("dali_pipes")]
caches = [value for module in modules for value in vars(module).values() if hasattr(value, "cache_clear")]
times, each = {SCANS}, 1

def prepare(path):
    for cache in caches if COLD else ():
        cache.cache_clear()
    return path
"""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout to compare with")
    parser.add_argument("--cold", action="store_true", help="forget before each scan what earlier files have taught")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each checkout (%(default)s)")
    add_out(parser, "scan.jsonl")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    script = f"COLD = {arguments.cold}\n{_SCRIPT}"
    workers = checkouts.workers(script, arguments.before, ENVIRONMENT)
    recorder, kind = Recorder("scan", arguments.out / "scan.jsonl"), "cold" if arguments.cold else "scan"
    for path in arguments.videos or made(arguments.out / "made"):
        recorder.add(f"{kind}/{path.stem}", **checkouts.measure(path.resolve(), workers, arguments.rounds))


def made(folder: Path) -> list[Path]:
    """Write the generated videos; return their paths, with the number of frames in the name."""
    paths = []
    for spec in MADE:
        of_length = folder / f"{spec.frames}f"
        write_videos(of_length, [spec])
        path = folder / f"{spec.name}-{spec.frames}f.mp4"
        path.unlink(missing_ok=True)
        path.hardlink_to(spec.path(of_length))
        paths.append(path)
    return paths


if __name__ == "__main__":
    main()
