"""Measure reading from a store: python benchmarks/storage/store.py [--out FOLDER] > benchmarks/results/store.jsonl

A store on this machine (`harness/store_server.py`) serves generated videos. For clips of 8 frames, one random frame of
each of 8 segments, the requests and bytes of a clip are counted, and the share of its packets in the video. Each VIDEO
is counted unchanged and repeated for ten minutes; so are the requests of a scan of its index (data.check=index). Then
clips of many copies are fetched and cut: with 20 and 50 ms per request, with 2 % of the requests 500 ms later, and with
5 % of errors and 3 % of truncated bodies. Every cut is compared with that of the local file. The sustained rate is that
between the first clips and the last requests: a training does not fill and empty its queue every few seconds. The last
rows compare the second epoch of the local cache with local files, and `prepare.py pack` with a copy of the same bytes,
and count how often packing reads videos in a store, after a scan of their packets or of their indices.

Requests, bytes and CPU time per clip are reproducible; clips per second depend on the machine and on the server, which
uses the same cores, so compare them within one run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.harness.arguments import add_out, make_parser


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO", help="more videos whose clips are counted")
    parser.add_argument("--clips", type=int, default=4096, help="clips for each condition (%(default)s)")
    parser.add_argument("--counts-only", action="store_true", help="measure no rates, for a busy machine")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the conditions, alternating (%(default)s)")
    add_out(parser, "store.jsonl")
    return parser.parse_args()


if __name__ == "__main__":  # before the imports below, which take seconds: --help and mistakes are answered at once
    ARGUMENTS = parse()

import av
import numpy as np

from benchmarks.harness.numbered_videos import VideoSpec, write_videos
from benchmarks.harness.record import Recorder
from benchmarks.harness.store_server import CUT, StoreServer, serving
from dali_pipes.cut.cutter import Cut, cut_all
from dali_pipes.cut.plan import needed
from dali_pipes.errors import DataError
from dali_pipes.feed.feeder import PART
from dali_pipes.feed.fetcher import CLIPS_AHEAD, MOST_BYTES, FetchedPart
from dali_pipes.lists import store_status
from dali_pipes.scan.probe import probe, scan_file
from dali_pipes.storage.cache import VideoCache
from dali_pipes.storage.fetch import AT_ONCE
from dali_pipes.storage.memory_budget import MemoryBudget
from dali_pipes.video.packet_table import Video
from tools import prepare
from tools.data.stats import drawn_clips

COUNTED = {  # videos for the counts of one clip
    "10 s, keyframe every 8": VideoSpec("h264", 8),
    "10 s, keyframe every 16": VideoSpec("h264", 16),
    "10 s, as found on the web": VideoSpec("h264", 250, b_frames=3),
}
CONDITIONS = {  # seconds per request; shares of requests 500 ms late, with status 503, with truncated bodies
    "20 ms": (0.02, 0, 0, 0),
    "50 ms": (0.05, 0, 0, 0),
    "20 ms, 2 % late by 500 ms": (0.02, 0.02, 0, 0),
    "20 ms, 5 % of 503, 3 % cut": (0.02, 0, 0.05, 0.03),
}
COPIES = 128
PACKED = 12  # times these copies are packed: a gigabyte
T = 8


def main(arguments: argparse.Namespace) -> None:
    if arguments.clips <= AT_ONCE + CLIPS_AHEAD:
        sys.exit(f"store.py: --clips: {arguments.clips} is too few for a sustained rate; take some thousands")
    arguments.out.mkdir(parents=True, exist_ok=True)
    recorder, made = Recorder("store", arguments.out / "store.jsonl"), arguments.out / "made"
    write_videos(made, list(COUNTED.values()))
    for case, spec in COUNTED.items():
        recorder.add(f"store/{case}", **count(made, spec.path(made)))
    longer = repeated(COUNTED["10 s, keyframe every 16"].path(made), made / "long.mp4")
    recorder.add("store/10 minutes, keyframe every 16", **count(made, longer))
    for path in arguments.videos:
        recorder.add(f"store/{path.name}", **count(path.parent, path))
        longer = repeated(path, made / f"{path.stem}-long.mp4")
        recorder.add(f"store/{path.name}, ten minutes", **count(made, longer))
    with tempfile.TemporaryDirectory() as folder:
        files = copies(made, COUNTED["10 s, keyframe every 8"], Path(folder, "set"))
        recorder.add("store/pack from a store", **pack_from_store(files, Path(folder)))
        if arguments.counts_only:
            return
        for case, found in under_conditions(files, arguments.clips, arguments.rounds).items():
            recorder.add(f"store/{case}", **found)
        recorder.add("store/cache, second epoch", **from_cache(files, Path(folder, "cache"), arguments.rounds))
        recorder.add("store/pack", **pack(files, Path(folder), arguments.rounds))


def repeated(source: Path, target: Path, seconds: float = 600) -> Path:
    """Write a video that repeats another one for so many seconds."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        length, time_base = old.streams.video[0].duration, old.streams.video[0].time_base
        packets = [packet for packet in old.demux(video=0) if packet.size]
        contents = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        times = round(seconds / float(length * time_base))
        for number, (content, pts, dts, is_keyframe) in product(range(times), contents):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, time_base, is_keyframe
            packet.pts, packet.dts = pts + number * length, dts + number * length
            new.mux(packet)
    return target


def count(made: Path, path: Path) -> dict:
    """Count requests and bytes of the clips of a video."""
    video, clips = probe(str(path)), 64
    frames = list(drawn_clips(video.frames, T, clips))
    with serving(made) as store:
        (remote,) = in_store([video], made, store.url)
        store.reset()
        cuts = cut_all([remote] * clips, frames)
        requests, sent = len(store.requests) / clips, store.sent / clips
        heads = sum(request.method == "HEAD" for request in store.requests)
        store.reset()
        found = scan_file(remote.path, "index")
        index_requests, index_sent = len(store.requests), store.sent
    same = [cut.data for cut in cuts] == [cut.data for cut in cut_all([video] * clips, frames)]
    packets = np.mean([video.sizes[needed(video, frames_T)].sum() for frames_T in frames])
    return {
        "requests": requests,
        "kB": sent / 1e3,
        "part": sent / video.size,
        "part_of_packets": float(packets / video.size),
        "heads": heads,
        "video_kB": video.size / 1e3,
        "same": same,
        "index": found.check == "index" and np.array_equal(found.video.order, video.order),
        "index_requests": index_requests,
        "index_kB": index_sent / 1e3,
        "part_of_index_and_clip": (index_sent + sent) / video.size,
    }


def copies(made: Path, spec: VideoSpec, folder: Path) -> list[Video]:
    """Return the videos of a folder of copies of one."""
    folder.mkdir()
    return [probe(str(shutil.copy(spec.path(made), folder / f"{number:03}.mp4"))) for number in range(COPIES)]


def in_store(videos: list[Video], folder: Path, url: str) -> list[Video]:
    """Return the videos as a scan of the store would have them."""
    urls = [f"{url}/{Path(video.path).relative_to(folder)}" for video in videos]
    stamps = [stamp for _, stamp, _ in store_status.look_in_store(urls, url)]
    return [replace(video, path=path, mtime_ns=stamp) for video, path, stamp in zip(videos, urls, stamps, strict=True)]


def under_conditions(files: list[Video], clips: int, rounds: int) -> dict[str, dict]:
    """Fetch and cut clips under each condition, alternately; return the medians of the rounds."""
    folder = Path(files[0].path).parent
    frames = list(drawn_clips(files[0].frames, T, clips))
    parts = [slice(first, first + PART) for first in range(0, clips, PART)]
    local = [files[number % COPIES] for number in range(clips)]
    wanted = [cut.data for part in parts for cut in cut_all(local[part], frames[part])]
    found: dict[str, list[dict]] = {case: [] for case in CONDITIONS}
    with ExitStack() as servers:
        served = {case: servers.enter_context(server_process(folder, how)) for case, how in CONDITIONS.items()}
        for case, (url, counts) in [*served.items()] * rounds:
            remote = in_store(files, folder, url)
            videos = [remote[number % COPIES] for number in range(clips)]
            cuts = fetched_and_cut([(videos[part], frames[part]) for part in parts])
            found[case].append(measured(cuts, wanted, counts))
    medians = {
        case: {name: float(np.median([one[name] for one in of_case])) for name in of_case[0]}
        for case, of_case in found.items()
    }
    at_20_ms = medians["20 ms"]["sustained_clips_per_s"]
    return {
        case: {**values, "of_20_ms": values["sustained_clips_per_s"] / at_20_ms} for case, values in medians.items()
    }


def measured(cuts: Iterator[Cut | DataError], wanted: list[bytes], counts: Callable[[], dict]) -> dict:
    """Consume all cuts; return their rate and cost. `counts` returns the counts of the server.

    The sustained numbers are those of the clips during which others were being requested.
    """
    began, spent, before = time.perf_counter(), time.process_time(), counts()
    bad, wrong, at = 0, 0, []
    for cut, data in zip(cuts, wanted, strict=True):
        at.append((time.perf_counter(), time.process_time()))
        bad += isinstance(cut, DataError)
        wrong += isinstance(cut, Cut) and cut.data != data
    clips, took, cpu, after = len(at), time.perf_counter() - began, time.process_time() - spent, counts()
    first, last = AT_ONCE, clips - CLIPS_AHEAD
    seconds, cpu_seconds = np.subtract(at[last], at[first])
    return {
        "clips_per_s": clips / took,
        "cpu_ms_per_clip": 1e3 * cpu / clips,
        "sustained_clips_per_s": (last - first) / seconds,
        "sustained_cpu_ms_per_clip": 1e3 * cpu_seconds / (last - first),
        "requests_per_clip": (after["requests"] - before["requests"]) / clips,
        "kB_per_clip": (after["sent"] - before["sent"]) / clips / 1e3,
        "bad": bad,
        "wrong": wrong,
    }


def fetched_and_cut(
    parts: list[tuple[list[Video], list[np.ndarray]]], cache: VideoCache | None = None
) -> Iterator[Cut | DataError]:
    """Cut parts, with as many requested ahead as in training."""
    room, under_way = MemoryBudget(MOST_BYTES), deque()
    for videos, frames in parts:
        part = FetchedPart(dict(enumerate(videos)), dict(enumerate(frames)), room, cache)
        under_way.append((part, videos, frames))
        if len(under_way) * PART > CLIPS_AHEAD:
            yield from _cut_first(under_way)
    while under_way:
        yield from _cut_first(under_way)


def _cut_first(under_way: deque) -> list[Cut | DataError]:
    fetched, videos, frames = under_way.popleft()
    return cut_all(videos, frames, fetched.finish(range(len(videos))))


@contextmanager
def server_process(folder: Path, condition: tuple[float, float, float, float]) -> Iterator:
    """Serve a folder from another process; yields the URL and a function that returns the counts."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(folder, condition, there), daemon=True)
    process.start()

    def counts() -> dict:
        here.send("counts")
        return here.recv()

    try:
        yield here.recv(), counts
    finally:
        process.kill()
        process.join()


def serve(folder: Path, condition: tuple[float, float, float, float], connection) -> None:
    """Serve a folder in the other process, and send the counts on request."""
    delay, late, failing, cut = condition
    chances = np.random.default_rng(0).random((2, 1 << 16))

    def fault(number: int) -> int | str | None:
        chance = chances[0, number % (1 << 16)]
        return 503 if chance < failing else CUT if chance < failing + cut else None

    with serving(folder) as store:
        store: StoreServer
        store.delay, store.fault = delay, fault
        store.lateness = lambda number: 0.5 * (chances[1, number % (1 << 16)] < late)
        connection.send(store.url)
        while connection.recv():
            connection.send({"requests": len(store.requests), "sent": store.sent})


def from_cache(files: list[Video], folder: Path, rounds: int) -> dict:
    """Compare cuts of cached videos with cuts of the same local files, alternately, by the CPU time of both."""
    frames = list(drawn_clips(files[0].frames, T, COPIES))
    parts = [slice(first, first + PART) for first in range(0, COPIES, PART)]
    times: dict[str, list[float]] = {"local": [], "cache": []}
    with serving(Path(files[0].path).parent) as store:
        remote = in_store(files, Path(files[0].path).parent, store.url)
        cache = VideoCache(str(folder), 10**10, store.url)
        first = list(fetched_and_cut([(remote[part], frames[part]) for part in parts], cache))
        store.reset()
        for _ in range(20 * rounds):
            for name, videos in (("local", files), ("cache", remote)):
                videos = [replace(video) for video in videos]
                began = time.process_time()
                if name == "local":
                    made = [cut for part in parts for cut in cut_all(videos[part], frames[part])]
                else:
                    made = list(fetched_and_cut([(videos[part], frames[part]) for part in parts], cache))
                times[name].append(time.process_time() - began)
                assert [cut.data for cut in made] == [cut.data for cut in first]
        requests = len(store.requests)
    local, cached = (1e3 * float(np.median(times[name])) / COPIES for name in ("local", "cache"))
    return {"of_local": local / cached, "cpu_ms_per_clip": cached, "requests": requests}


def pack(files: list[Video], folder: Path, rounds: int) -> dict:
    """Compare packing with a plain copy of the same bytes, alternately. The list is scanned first."""
    source = folder / "to_pack"
    source.mkdir()
    for number, video in enumerate(files * PACKED):
        shutil.copy(video.path, source / f"{number:05}.mp4")
    (source / "all.list").write_text("".join(f"{number:05}.mp4 0\n" for number in range(len(files) * PACKED)))
    prepare.main(["scan", str(source / "all.list")])
    times: dict[str, list[float]] = {"copy": [], "pack": []}
    for _ in range(rounds):
        for name in times:
            os.sync()
            began = time.perf_counter()
            if name == "copy":
                shutil.copytree(source, folder / name)
            else:
                prepare.main(["pack", str(source / "all.list"), "--out", str(folder / name)])
            times[name].append(time.perf_counter() - began)
            shutil.rmtree(folder / name)
    size = PACKED * sum(video.size for video in files)
    copy_s, pack_s = np.median(times["copy"]), np.median(times["pack"])
    return {"of_copy": float(copy_s / pack_s), "MB_per_s": float(size / pack_s / 1e6), "MB": size / 1e6}


def pack_from_store(files: list[Video], folder: Path) -> dict:
    """Count how often packing reads the bytes of videos in a store that no scan has seen, by the kind of scan."""
    (folder / "some.list").write_text("".join(f"{Path(video.path).name} 0\n" for video in files))
    found = {}
    for check in ("demux", "index"):
        with serving(Path(files[0].path).parent) as store:
            words = ["--root", store.url, "--check", check, "--cache", str(folder / f"cache-{check}")]
            prepare.main(["pack", str(folder / "some.list"), *words, "--out", str(folder / f"packed-{check}")])
            found[f"read_{check}"] = store.sent / sum(video.size for video in files)
    return found


if __name__ == "__main__":
    main(ARGUMENTS)
