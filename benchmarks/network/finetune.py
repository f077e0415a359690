"""Compare the rate and the length that finetune.yaml chooses with random ones, on two small sets of real videos.

    python -m benchmarks.network.finetune data/pan4/clips.csv --out benchmarks/results/finetune.jsonl [--minutes 15]
    python -m benchmarks.network.finetune --table --out benchmarks/results/finetune.jsonl     # of docs/recipes.md

The sets are made of the clips of configs/pan4.yaml. `pans` are four directions of a moving window over every third
source clip; `fights` is one direction over all of them, with fight or no fight as classes, which the names of the
source clips tell. A small network starts from random weights. Rates are drawn from a tenth to ten times the chosen one,
lengths from 12 to 60 epochs, both on a logarithmic scale. A seed also draws the split, by whole recordings. What --out
holds is not run again, and runs end when --minutes are over, so that several calls do the work in parts.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import configs
from benchmarks.harness.record import environment
from engine.train import from_data, run

NETWORK = [
    "model.pretrained=none",
    "model.backbone=resnet18",
    "model.width=8",
    "clip.size=48",
    "clip.flip=0",
    "eval.short_side=56",
    "runtime.device=cpu",
    "runtime.precision=fp32",
    "runtime.threads=1",
    "train.eval_every=1000",  # so at the end alone
    "data.group=youtube_source",
]
SETS = ("pans", "fights")
CHOSEN = "chosen"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="?", help="clips.csv of the set of configs/pan4.yaml")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--random", type=int, default=10, metavar="N", help="random settings (%(default)s)")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--table", action="store_true", help="print the table of what --out holds, and stop")
    arguments = parser.parse_args()
    if arguments.table:
        print("\n".join(table(read(arguments.out))))
        return
    measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Train what --out does not hold yet, and add a line for each run."""
    end = time.monotonic() + 60 * arguments.minutes
    done = {(line["set"], line["setting"], line["seed"]) for line in read(arguments.out)}
    with tempfile.TemporaryDirectory() as folder:
        for name in SETS:
            write_set(name, arguments.clips, Path(folder, f"{name}.csv"))
        for name, setting, seed in plan(arguments.seeds, arguments.random):
            if (name, setting, seed) not in done and time.monotonic() < end:
                line = {"set": name, "setting": setting, "seed": seed, **train(Path(folder), name, setting, seed)}
                with arguments.out.open("a") as file:
                    file.write(json.dumps(line | {"env": environment()}) + "\n")


def plan(seeds: int, count: int) -> Iterator[tuple[str, str, int]]:
    """Yield (set, setting, seed) of all runs; the chosen setting before the random ones."""
    for seed in range(seeds):
        for name in SETS:
            for setting in (CHOSEN, *(f"random {number}" for number in range(count))):
                yield name, setting, seed


def write_set(name: str, clips: Path, target: Path) -> None:
    """Write the table of one of the sets, with absolute paths."""
    with clips.open(newline="") as file:
        rows = list(csv.DictReader(file))
    third = set(sorted({row["source_clip"] for row in rows})[::3])
    with target.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "youtube_source"])
        for row in rows:
            path = clips.parent.resolve() / row["path"]
            if name == "pans" and row["source_clip"] in third:
                table.writerow([path, row["label"], row["youtube_source"]])
            if name == "fights" and row["label"] == "pan_left":
                fight = "fight" if row["source_clip"].startswith("fi") else "no fight"
                table.writerow([path, fight, row["youtube_source"]])


def train(folder: Path, name: str, setting: str, seed: int) -> dict:
    """Train one run; returns its settings and how many of the held-out videos its last weights recognise."""
    run_name = f"{name}-{setting.replace(' ', '')}-{seed}"
    words = [f"data.train={folder / name}.csv", f"train.runs={folder}", f"train.name={run_name}", f"train.seed={seed}"]
    config = configs.load("finetune.yaml", [*NETWORK, *words])
    chosen = from_data.choose(config, ranks=1, folder=folder / "unused").config
    if setting != CHOSEN:
        drawn = random.Random(f"{name}/{setting}")
        epochs = round(12 * 5 ** drawn.random())
        rate = chosen.optim.lr * 10 ** drawn.uniform(-1, 1)
        words += [f"train.epochs={epochs}", f"optim.lr={rate:.4g}", "optim.lr_for_batch=64"]
        config = configs.load("finetune.yaml", [*NETWORK, *words])
    started = time.process_time()
    _, training = run.run(config)
    result = json.loads((folder / run_name / "val_last.json").read_text())
    return {
        "lr": training.config.optim.lr,
        "epochs": training.config.train.epochs,
        "batch": training.config.train.batch,
        "correct": result["correct"],
        "evaluated": result["evaluated"],
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(lines: list[dict]) -> list[str]:
    """Return the rows of the table in Markdown: a row for each set."""
    rows = [
        "| set | held-out videos, all seeds | seeds | chosen: top-1 | standard error | best of the random settings | "
        "random settings better by more than one standard error |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name in SETS:
        found = defaultdict(list)
        for line in lines:
            if line["set"] == name:
                found[line["setting"]].append(line)
        ours, others = found.pop(CHOSEN), [accuracy(of_one) for of_one in found.values()]
        mean, videos = accuracy(ours), sum(line["evaluated"] for line in ours)
        error = math.sqrt(mean * (1 - mean) / videos)
        better = sum(other > mean + error for other in others)
        cells = (f"{100 * mean:.1f}", f"{100 * error:.1f}", f"{100 * max(others):.1f}", f"{better} of {len(others)}")
        rows.append(f"| {name} | {videos} | {len(ours)} | {' | '.join(cells)} |")
    return rows


def accuracy(lines: list[dict]) -> float:
    return sum(line["correct"] for line in lines) / sum(line["evaluated"] for line in lines)


if __name__ == "__main__":
    main()
