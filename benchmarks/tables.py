"""Write the tables of docs/performance.md from benchmarks/results: python benchmarks/tables.py

The text between the comments `<!-- table NAME -->` and `<!-- end -->` is replaced by the table of that name. `--check`
changes nothing and fails if a table differs from the results.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"
_PLACE = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Record = dict
Row = list[str]


def records(file: str, cases: str = "") -> list[Record]:
    """Return the records of a results file whose case matches; later runs replace earlier ones."""
    path = RESULTS / file
    lines = path.read_text().splitlines() if path.exists() else []
    latest = {record["case"]: record for record in map(json.loads, lines)}
    return [record for case, record in latest.items() if re.match(cases, case)]


def rate(record: Record) -> str:
    """Format clips per second with quartiles."""
    low, high = record["clips_per_s_iqr"]
    return f"{record['clips_per_s']:.4g} ({low:.4g}–{high:.4g})"


def peers(part: str, file: str = "peers.jsonl") -> Iterator[Row]:
    """Yield a row per implementation of a comparison, group by group."""
    yield ["data", "implementation", "clips/s (quartiles)", "speed-up of ours", "largest pixel difference, grey levels"]
    for record in records(file, f"{part}/"):
        _, video, name = record["case"].split("/", 2)
        if "skipped" in record:
            continue
        difference = record.get("largest_difference")
        far = f"mean {record['mean_difference']:.2f}" if "mean_difference" in record else ""
        far = far if difference is None else str(difference)
        yield [video, name, rate(record), f"{record['ours_over_it']:.2f}", far]


def stages() -> Iterator[Row]:
    """Yield a row per stage of training and recipe."""
    yield ["case", "clips/s (quartiles)", "time spent waiting for data"]
    for record in records("throughput.jsonl", r"(cut|decode|feed|compute|train)\b"):
        yield [record["case"], rate(record), f"{100 * record['waiting']:.1f} %"]


def counts() -> Iterator[Row]:
    """Yield the frames decoded and the bytes read per clip."""
    yield ["case", "frames decoded per clip", "per frame used", "read per clip, kB"]
    for record in records("throughput.jsonl", r"counts\b"):
        decoded, used = record["decoded_per_clip"], record["decoded_per_used"]
        yield [record["case"], f"{decoded:.1f}", f"{used:.2f}", f"{record['bytes_per_clip'] / 1e3:.1f}"]


def cuts() -> Iterator[Row]:
    """Yield the cost of cutting a clip, per video."""
    yield [
        "video",
        "frames decoded per clip",
        "read per clip, kB",
        "surplus bytes read",
        "ms per clip, 1 thread",
        "2 threads",
    ]
    for record in records("cut.jsonl", "cut/"):
        read, needed = record["bytes_per_clip"], record["bytes_needed_per_clip"]
        low, high = record["ms_quartiles"]["1 thread"]
        one, two = (record["ms_per_clip"][threads] for threads in ("1 thread", "2 threads"))
        yield [
            record["case"].removeprefix("cut/"),
            f"{record['decoded_per_clip']:.1f}",
            f"{read / 1e3:.1f}",
            f"{100 * (read / needed - 1):.1f} %",
            f"{one:.3f} ({low:.3f}–{high:.3f})",
            f"{two:.3f}",
        ]


def streams() -> Iterator[Row]:
    """Yield the time per frame of a stream, per network."""
    yield [
        "network",
        "precision",
        "ms per frame (quartiles)",
        "99th percentile, ms",
        "offline, ms per frame",
        "cache, kB",
    ]
    for record in records("streaming.jsonl"):
        low, high = record["frame_ms_iqr"]
        yield [
            f"{record['case']}, {record['size']} px",
            record["precision"],
            f"{record['frame_ms']:.1f} ({low:.1f}–{high:.1f})",
            f"{record['frame_ms_p99']:.1f}",
            f"{record['offline_frame_ms']:.1f}",
            f"{record['cache_bytes'] / 1e3:.0f}",
        ]


def bytes_moved() -> Iterator[Row]:
    """Yield the memory traffic of a training step, per form of the shift."""
    yield ["network", "shift", "MB per frame", "relative to no shift"]
    for record in records("bytes.jsonl"):
        network = f"{record['backbone']}, {record['frames']} frames, {record['size']} px, batch {record['clips']}"
        over = f"{100 * (record['over_none'] - 1):+.1f} %"
        yield [network, record["case"], f"{record['mb_per_picture']:.1f}", over]


def launches() -> Iterator[Row]:
    """Yield the launches of a training step, per form of the shift."""
    yield ["network", "shift", "launches, each cast and count alone", "launches, as trained", "saved"]
    found = {record["case"]: record for record in records("launches.jsonl", "step/")}
    for case, record in found.items():
        _, shift, way = case.split("/")
        if way == "as trained":
            network = f"{record['backbone']}, {record['frames']} frames"
            alone = found[f"step/{shift}/as autograd and autocast do it"]["launches"]
            saved = f"{100 * (1 - record['launches'] / alone):.0f} %"
            yield [network, shift, str(alone), str(record["launches"]), saved]


def steps(file: str = "shift.jsonl") -> Iterator[Row]:
    """Yield the time of a training step relative to TSN, per form of the shift."""
    yield ["precision, mode", "form of the shift", "step time relative to TSN"]
    for record in records(file, "steps/.*/over tsn"):
        _, precision, mode, _ = record["case"].split("/")
        for form in ("tsn again", "auto", "copied", "folded", "reference"):
            yield [f"{precision}, {mode}", form, f"{record[form]:.2f}"]


def inference(file: str = "shift.jsonl") -> Iterator[Row]:
    """Yield the time of the deployed network's forward pass relative to TSN, per form of the shift."""
    yield ["precision, mode", "form of the shift", "time relative to TSN"]
    found = {record["case"]: record["ms"] for record in records(file, "inference/.*/") if "ms" in record}
    for case, milliseconds in found.items():
        _, precision, mode, form = case.split("/")
        if form != "tsn":
            yield [f"{precision}, {mode}", form, f"{milliseconds / found[f'inference/{precision}/{mode}/tsn']:.2f}"]


def trained_snapped() -> Iterator[Row]:
    """Yield the accuracy after training with `clip.snap`."""
    yield ["recipe", "clip.snap", "top-1, %", "per seed"]
    for record in records("snap.jsonl", "train/"):
        snap = record["case"].partition("=")[2]
        seeds = ", ".join(f"{100 * top1:.1f}" for top1 in record["top1_of_seeds"])
        yield [record["recipe"], snap, f"{100 * record['top1']:.1f}", seeds]


def snapped() -> Iterator[Row]:
    """Yield the decoding saved by `clip.snap`."""
    yield ["videos", "clip.snap", "frames decoded per clip", "mean move, frames", "distinct frames drawn, of 300"]
    for record in records("snap.jsonl", "count/"):
        _, video, snap = record["case"].split("/")
        decoded, moved = f"{record['decoded_per_clip']:.1f}", f"{record['moved_by']:.1f}"
        yield [video, snap.removeprefix("snap="), decoded, moved, str(record["distinct_frames"])]


TABLES: dict[str, Callable[[], Iterator[Row]]] = {
    "decode": lambda: peers("decode"),
    "dali": lambda: peers("dali"),
    "dali-even": lambda: peers("dali even"),
    "feed": lambda: peers("feed"),
    "step": lambda: peers("step"),
    "bytes": bytes_moved,
    "launches": launches,
    "cut": cuts,
    "steps": steps,
    "inference": inference,
    "feed-epyc": lambda: peers("feed", "peers_epyc.jsonl"),
    "step-epyc": lambda: peers("step", "peers_epyc.jsonl"),
    "steps-epyc": lambda: steps("shift_epyc.jsonl"),
    "inference-epyc": lambda: inference("shift_epyc.jsonl"),
    "snap": snapped,
    "snap-train": trained_snapped,
    "streaming": streams,
    "stages": stages,
    "counts": counts,
}


def markdown(rows: Iterator[Row]) -> str:
    """Format rows, the first of them headings, as a table whose first two columns are left-aligned."""
    head, *body = rows
    lines = [head, ["---"] * min(2, len(head)) + ["---:"] * (len(head) - 2), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_tables(text: str) -> str:
    """Return `text` with every table written anew."""
    return _PLACE.sub(lambda place: place[1] + markdown(TABLES[place[2]]()) + place[3], text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if a table differs")
    arguments = parser.parse_args()
    text = DOCUMENT.read_text()
    made = with_tables(text)
    if arguments.check:
        return int(made != text)
    DOCUMENT.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
