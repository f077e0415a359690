"""Measure the CPU time of a scan per file: python benchmarks/scan.py [VIDEO ...] [--before CHECKOUT]

Each video gets a JSON line: CPU milliseconds to scan it with the default check, file in the page cache, memory
allocated as in the processes of a scan. A video is scanned several times, as if others of its encoder had been scanned
before; with --cold, as the first of its encoder. With --before, another checkout scans the same videos in turns with
this one, and the line gives the ratio of both. Without VIDEO, videos of 300 and of 60 frames of 352x256 are generated,
with B-frames and keyframe intervals as in unconverted files.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.measure import spread
from benchmarks.harness.numbered_videos import VideoSpec, write_videos
from benchmarks.harness.record import Recorder
from dali_pipes.scan.processes import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[1]
MADE = [
    VideoSpec(codec, 250, b_frames, frames=frames)
    for codec, b_frames in (("h264", 3), ("hevc", 3), ("vp9", 0), ("mpeg4", 0), ("mjpeg", 0))
    for frames in (300, 60)
]
SCANS = 8  # of a video in a turn

# Runs in a process of each checkout: a path per line is scanned, and the CPU milliseconds per scan are printed.
_WORKER = f"""
import sys, time
try:
    from dali_pipes.scan.probe import probe
except ImportError:  # as the module was called before
    from dali_pipes.probe import probe
modules = [module for name, module in sys.modules.items() if name.startswith("dali_pipes")]
caches = [value for module in modules for value in vars(module).values() if hasattr(value, "cache_clear")]
for line in sys.stdin:
    path, spent = line.rstrip("\\n"), 0.0
    for _ in range({SCANS}):
        for cache in caches if "cold" in sys.argv else ():
            cache.cache_clear()
        began = time.process_time()
        probe(path)
        spent += time.process_time() - began
    print(1e3 * spent / {SCANS}, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout to compare with")
    parser.add_argument("--cold", action="store_true", help="forget before each scan what earlier files have taught")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each checkout (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="FOLDER", help="folder for scan.jsonl")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    checkouts = {"now": ROOT} | ({"before": arguments.before} if arguments.before else {})
    workers = {name: Worker(folder, cold=arguments.cold) for name, folder in checkouts.items()}
    recorder, kind = Recorder("scan", arguments.out / "scan.jsonl"), "cold" if arguments.cold else "scan"
    for path in arguments.videos or made(arguments.out / "made"):
        recorder.add(f"{kind}/{path.stem}", **measure(path.resolve(), workers, arguments.rounds))


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


class Worker:
    """A process that scans videos with the code of a checkout."""

    def __init__(self, checkout: Path, *, cold: bool):
        command = [sys.executable, "-c", _WORKER, *["cold"] * cold]
        environment = {**os.environ, **ENVIRONMENT}
        self._process = subprocess.Popen(
            command, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def milliseconds(self, path: Path) -> float:
        """Return the CPU time per scan of a video."""
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def measure(path: Path, workers: dict[str, Worker], rounds: int) -> dict:
    """Return the CPU milliseconds per scan of each checkout, and the median of the ratios of each turn."""
    for worker in workers.values():
        worker.milliseconds(path)
    times: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(rounds):
        for name in sorted(workers, reverse=turn % 2 == 1):
            times[name].append(workers[name].milliseconds(path))
    found = {"ms": {name: spread(values)[0] for name, values in times.items()}}
    if "before" in times:
        ratios = [now / before for now, before in zip(times["now"], times["before"], strict=True)]
        found["now_over_before"], found["quartiles"] = spread(ratios)
    return found


if __name__ == "__main__":
    main()
