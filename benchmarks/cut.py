"""Measure cutting clips, without decoding: python benchmarks/cut.py [VIDEO ...] > benchmarks/results/cut.jsonl

Clips of 8 frames, one random frame of each of 8 segments, are cut in parts as large as those of the loader's threads.
Each video gets a JSON line with: milliseconds per clip on one thread and on two, with the file in the page cache; the
shares of planning (NumPy), reading (system calls, which release the interpreter's lock) and the rest on one thread;
reading alone; the same with no file in the page cache, with one copy of the video per clip; frames decoded and bytes
read per clip. Without VIDEO, videos of 300 frames of 352x256 are generated with a keyframe every 1, 8, 16 and 250
frames, and one with 250 and B-frames, as in unconverted files. A last line gives the views drawn per second on one
core, in batches of 128. With --before, only another checkout cuts the same clips in turns with this one, and the line
gives the CPU milliseconds per clip of both and their ratio.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.arguments import add_out, make_parser


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("videos", nargs="*", metavar="VIDEO")
    parser.add_argument("--clips", type=int, default=1024, help="clips per measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each measurement, alternating (%(default)s)")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="only compare with another checkout")
    add_out(parser, "cut.jsonl")
    return parser.parse_args()


if __name__ == "__main__":  # before the imports below, which take seconds: --help and mistakes are answered at once
    ARGUMENTS = parse()

import numpy as np

import configs
from benchmarks.harness import checkouts
from benchmarks.harness.measure import spread
from benchmarks.harness.numbered_videos import VideoSpec, write_videos
from benchmarks.harness.record import Recorder
from dali_pipes.batch import Shard
from dali_pipes.cut import cutter
from dali_pipes.cut.plan import needed, plan_together
from dali_pipes.feed.feeder import PART
from dali_pipes.scan import build
from dali_pipes.scan.probe import probe
from dali_pipes.scan.processes import ENVIRONMENT
from dali_pipes.video.packet_table import Video
from dali_pipes.views.plans import TrainPlan
from tools.data.stats import drawn_clips

MADE = [*(VideoSpec("h264", interval) for interval in (1, 8, 16, 250)), VideoSpec("h264", 250, b_frames=3)]
T = 8  # frames per clip
TURNS = 100  # of each checkout
COPIES = 64  # copies of a video, to be read from the disk

_SCRIPT = f"""
from dataclasses import replace
from functools import cache
import numpy as np
try:
    from dali_pipes.cut.cutter import cut_all
    from dali_pipes.scan.probe import probe
except ImportError:  # as the modules were called before
    from dali_pipes.cutter import cut_all
    from dali_pipes.probe import probe
times, each, probe, rng = 8, {PART}, cache(probe), np.random.default_rng(0)

def prepare(path):
    video = probe(path)
    starts = np.linspace(0, video.frames, 9)[:-1]
    frames = (starts + rng.random((each, 8)) * video.frames / 8).astype(np.int64)
    return [replace(video) for _ in range(each)], list(frames)

def task(part):
    cut_all(*part)
"""

Part = tuple[list[Video], list[np.ndarray]]  # videos cut together, and the frames of each


def main(arguments: argparse.Namespace) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    recorder, folder = Recorder("cut", arguments.out / "cut.jsonl"), arguments.out / "made"
    if not arguments.videos:
        write_videos(folder, MADE)
    videos = arguments.videos or [str(spec.path(folder)) for spec in MADE]
    if arguments.before:
        workers = checkouts.workers(_SCRIPT, arguments.before, ENVIRONMENT)
        for path in map(Path, videos):
            recorder.add(f"cut/{path.stem}, two checkouts", **checkouts.measure(path.resolve(), workers, TURNS))
        return
    for path in videos:
        recorder.add(f"cut/{Path(path).stem}", **measure(path, arguments.clips, arguments.rounds))
    recorder.add("views", **views_a_second(folder, arguments.rounds))


def measure(path: str, clips: int, rounds: int) -> dict:
    """Measure the cost of cutting clips of a video."""
    video = probe(path)
    parts = in_parts([video] * clips, list(drawn_clips(video.frames, T, clips)))
    cuts = [cut for part in parts for cut in cutter.cut_all(*part)]
    runs = [[plan.runs.tolist() for plan in plan_together(*part)] for part in parts]
    with tempfile.TemporaryDirectory() as folder:
        copies = [probe(shutil.copy(path, f"{folder}/{number}{Path(path).suffix}")) for number in range(COPIES)]
        from_disk = in_parts(copies, list(drawn_clips(video.frames, T, COPIES)))
        jobs: dict[str, Callable[[], float]] = {
            "1 thread": partial(per_clip, cut_part, parts, 1, clips),
            "2 threads": partial(per_clip, cut_part, parts, 2, clips),
            "planning": partial(per_clip, lambda part: list(plan_together(*part)), parts, 1, clips),
            "reading": partial(per_clip, partial(read_part, path), runs, 1, clips),
            "reading, 2 threads": partial(per_clip, partial(read_part, path), runs, 2, clips),
            "disk, 1 thread": partial(from_cold, copies, partial(per_clip, cut_part, from_disk, 1, COPIES)),
            "disk, 2 threads": partial(from_cold, copies, partial(per_clip, cut_part, from_disk, 2, COPIES)),
        }
        times: dict[str, list[float]] = {name: [] for name in jobs}
        for _ in range(rounds):
            for name, job in jobs.items():
                times[name].append(job())
    median = {name: spread(values)[0] for name, values in times.items()}
    least = [int(video.sizes[needed(video, frames_T)].sum()) for frames_T in drawn_clips(video.frames, T, clips)]
    planning, reading = (median[name] / median["1 thread"] for name in ("planning", "reading"))
    return {
        "decoded_per_clip": float(np.mean([cut.packets for cut in cuts])),
        "bytes_per_clip": float(np.mean([sum(size for _, size in clip) for part in runs for clip in part])),
        "bytes_needed_per_clip": float(np.mean(least)),
        "ms_per_clip": median,
        "ms_quartiles": {name: spread(values)[1] for name, values in times.items()},
        "two_threads_over_one": median["1 thread"] / median["2 threads"],
        "two_threads_over_one_reading": median["reading"] / median["reading, 2 threads"],
        "two_threads_over_one_from_disk": median["disk, 1 thread"] / median["disk, 2 threads"],
        "share": {"planning": planning, "reading": reading, "else": 1 - planning - reading},
    }


def in_parts(videos: list[Video], frames: list[np.ndarray]) -> list[Part]:
    """Split videos into parts of PART, each with what the catalogue contains and nothing cached."""
    videos = [replace(video) for video in videos]
    return [(videos[first : first + PART], frames[first : first + PART]) for first in range(0, len(videos), PART)]


def cut_part(part: Part) -> list:
    return cutter.cut_all(*part)


def read_part(path: str, part: list[list[tuple[int, int]]]) -> None:
    """Run only the system calls of cutting."""
    for runs in part:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.fstat(descriptor)
        for offset, size in runs:
            os.pread(descriptor, size, offset)
        os.close(descriptor)


def per_clip(work: Callable, parts: list, threads: int, clips: int) -> float:
    """Return the wall-clock milliseconds per clip."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(abs, range(threads)))  # the threads have started
        began = time.perf_counter()
        for _ in pool.map(work, parts):
            pass
        return 1e3 * (time.perf_counter() - began) / clips


def from_cold(videos: list[Video], work: Callable[[], float]) -> float:
    """Return the result of `work`, started with none of these files in the page cache."""
    for video in videos:
        descriptor = os.open(video.path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    return work()


def views_a_second(folder: Path, rounds: int) -> dict:
    """Return the training views drawn per second on one core."""
    spec, listing = VideoSpec("h264", 16), folder / "views.list"
    write_videos(folder, [spec])
    listing.write_text(f"{spec.path(folder).name} 0\n" * 4096)
    settings = [f"data.train={listing}", f"data.root={folder}", "data.class_names=", "train.batch=128"]
    config = configs.load("tsm_k400_nhwc", settings)
    plan = TrainPlan(config, build.load_catalog(str(listing), config.data), Shard())
    rates = []
    for epoch in range(rounds):
        began = time.process_time()
        for step in range(len(plan)):
            plan.draw(epoch, step)
        rates.append(len(plan) * plan.batch / (time.process_time() - began))
    median, quartiles = spread(rates)
    return {"views_per_s": median, "views_per_s_iqr": quartiles}


if __name__ == "__main__":
    main(ARGUMENTS)
