"""Compare keyframe intervals: python benchmarks/gop.py VIDEO... > benchmarks/results/gop.jsonl

Transcodes each video with a keyframe every 16, 8 and 1 frames, otherwise with the defaults of `prepare.py transcode`,
and reads the same clips of 8 frames from every version: a random frame of each of 8 segments, cut and decoded by PyAV
on one thread. The versions alternate clip by clip, so that a busy machine affects all alike. With --feed, the whole
pipeline is measured too: batches from the project's loader, on all cores. Prints one JSON object per version to
stdout; `--table FILE` prints such a file as the table of docs/data.md.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain, count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", metavar="VIDEO")
    parser.add_argument("--clips", type=int, default=200, help="clips per video (%(default)s)")
    parser.add_argument("--feed", action="store_true", help="also measure whole batches")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print an earlier result as a table instead")
    arguments = parser.parse_args()
    if not arguments.videos and not arguments.table:
        parser.error("no video to compare versions of; name some, or an earlier result with --table")
    return arguments


if __name__ == "__main__":  # before the imports below, which take seconds: --help and mistakes are answered at once
    ARGUMENTS = parse()

import torch

import configs
from benchmarks.harness.measure import spread
from benchmarks.harness.record import environment
from dali_pipes import Loader
from dali_pipes.cut.cutter import Cut, cut
from dali_pipes.cut.decode import decode_frames
from dali_pipes.device import pick_device
from dali_pipes.scan.probe import probe
from dali_pipes.video.packet_table import Video
from engine import loaders
from tools.data.conversion.reencode import Settings, write_video
from tools.data.stats import drawn_clips

INTERVALS = (16, 8, 1)
T = 8  # frames per clip
FEED_BATCH, FEED_BATCHES, FEED_ROUNDS = 16, 8, 7


def main(arguments: argparse.Namespace) -> None:
    if arguments.table:
        print(table([json.loads(line) for line in arguments.table.read_text().splitlines()]))
        return
    for path in arguments.videos:
        for record in compare(path, arguments.clips, arguments.feed):
            print(json.dumps({"bench": "gop", **record, "env": environment()}), flush=True)


def compare(path: str, clips: int, feed: bool) -> Iterator[dict]:
    """Yield a record for the original and for each version of one video."""
    with tempfile.TemporaryDirectory() as folder:
        versions = {"original": probe(path)}
        for gop in INTERVALS:
            name = f"keyframe every {gop}" if gop > 1 else "keyframes only"
            write_video(versions["original"], f"{folder}/{gop}.mp4", asdict(Settings(gop=gop)))
            versions[name] = probe(f"{folder}/{gop}.mp4")
        made = {name: ([], []) for name in versions}
        for frames_T in drawn_clips(versions["original"].frames, T, clips):
            for name, video in versions.items():
                started = time.perf_counter()
                small = cut(video, frames_T)
                decode_frames(small, video.path)
                made[name][0].append(1e3 * (time.perf_counter() - started))
                made[name][1].append(small)
        fed = feed_all(versions, folder) if feed else {}
        for name, (milliseconds, cuts) in made.items():
            about = describe(versions[name], milliseconds, cuts) | fed.get(name, {})
            yield {"video": Path(path).name, "version": name, **about}


def feed_all(versions: dict[str, Video], folder: str) -> dict[str, dict]:
    """Measure the time per clip of each version in whole batches, from alternating loaders."""
    loaders = {
        name: open_loader(video, f"{folder}/{number}.list") for number, (name, video) in enumerate(versions.items())
    }
    milliseconds = {name: [] for name in versions}
    for turn in range(FEED_ROUNDS):
        for name, loader in loaders.items():
            # A round reads slightly more than an epoch, so that with two rounds none reads batches prepared earlier.
            batches = chain.from_iterable(map(loader.epoch, count(2 * turn)))
            for _ in range(loader.config.runtime.prefetch + 1):
                next(batches)  # until the queue is full again
            started = time.perf_counter()
            for _ in range(FEED_BATCHES):
                next(batches)
            milliseconds[name].append(1e3 * (time.perf_counter() - started) / (FEED_BATCHES * FEED_BATCH))
            loader.pause()
    for loader in loaders.values():
        loader.close()
    medians = {name: spread(values) for name, values in milliseconds.items()}
    return {
        name: {"feed_ms_per_clip": median, "feed_ms_quartiles": quartiles}
        for name, (median, quartiles) in medians.items()
    }


def open_loader(video: Video, listing: str) -> Loader:
    """Open a loader for a list that contains this video many times."""
    Path(listing).write_text(f"{video.path} 0\n" * (FEED_BATCH * FEED_BATCHES))
    settings = ["data.root=", "data.class_names=", "data.val=", f"data.train={listing}", f"train.batch={FEED_BATCH}"]
    config = configs.load("tsm_k400_nhwc", settings)
    return loaders.open_loader(config, "train", torch.device(pick_device(config.runtime.device)))


def describe(video: Video, milliseconds: list[float], cuts: list[Cut]) -> dict:
    """Describe a version and its measurements: means of counts, median and quartiles of times."""
    median, quartiles = spread(milliseconds)
    return {
        "codec": video.codec,
        "width": video.width,
        "height": video.height,
        "frames": video.frames,
        "file_bytes": video.size,
        "clips": len(cuts),
        "decoded_per_clip": statistics.mean(small.packets for small in cuts),
        "bytes_per_clip": statistics.mean(len(small.data) for small in cuts),
        "ms_per_clip": median,
        "ms_quartiles": quartiles,
    }


def table(records: list[dict]) -> str:
    """Format the records in Markdown."""
    head = (
        "| video | version | file, kB | frames decoded per clip | read per clip, kB | ms per clip (quartiles) | "
        "whole feed, ms |"
    )
    rows = [
        f"| {r['video']}, {r['frames']} frames | {r['version']} | {r['file_bytes'] / 1e3:.0f} | "
        f"{r['decoded_per_clip']:.1f} | {r['bytes_per_clip'] / 1e3:.0f} | "
        f"{r['ms_per_clip']:.1f} ({r['ms_quartiles'][0]:.1f}–{r['ms_quartiles'][1]:.1f}) | "
        f"{r.get('feed_ms_per_clip', math.nan):.1f} |"
        for r in records
    ]
    return "\n".join([head, "|---|---|---:|---:|---:|---:|---:|", *rows])


if __name__ == "__main__":
    main(ARGUMENTS)
