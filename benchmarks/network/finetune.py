"""Compare the rate and the length that finetune.yaml chooses with random ones, on two small sets of real videos.

    python -m benchmarks.network.finetune data/pan4/clips.csv --out benchmarks/results/finetune.jsonl [--minutes 15]
    python -m benchmarks.network.finetune --table --out benchmarks/results/finetune.jsonl     # of docs/recipes.md

The sets are made of the clips of configs/pan4.yaml. `pans` are four directions of a moving window over every third
source clip; `fights` is one direction over all of them, with fight or no fight as classes, which the names of the
source clips tell. A small network starts from random weights. Rates are drawn from a tenth to ten times the chosen one,
lengths from 12 to 60 epochs, both on a logarithmic scale. A seed also draws the split, by whole recordings.

The first seed only selects: the random settings that were better than the chosen one, and at least the best two. Their
results of that seed are too good, because they were selected by them. So they are compared with the chosen setting on
further seeds alone, each on the same splits.

The third set, `pan4`, is all of the clips; there pan4.yaml is trained too, on the same split and with the same small
network and clips.

What --out holds is not run again, and runs end when --minutes are over, so that several calls do the work in parts.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import configs
from benchmarks.harness.record import environment
from configs import Config
from engine.train import from_data, run

RUN = ["runtime.device=cpu", "runtime.precision=fp32", "runtime.threads=1", "train.eval_every=1000"]  # the last alone
NETWORK = ["model.pretrained=none", "model.backbone=resnet18", "clip.flip=0", "data.group=youtube_source"]
SMALLER = ["model.width=8", "clip.size=48", "eval.short_side=56"]
SIZES = {"pans": SMALLER, "fights": SMALLER, "pan4": ["model.width=16", "clip.size=48", "eval.short_side=54"]}
SETS = ("pans", "fights")  # with random settings
CHOSEN, RECIPE = "chosen", "pan4.yaml"
RECIPE_SEEDS = 3  # of the two recipes on `pan4`
SELECTED = 2  # random settings, at least, that are compared on further seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="?", help="clips.csv of the set of configs/pan4.yaml")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--seeds", type=int, default=6, help="with the first, which selects (%(default)s)")
    parser.add_argument("--random", type=int, default=10, metavar="N", help="random settings (%(default)s)")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--table", action="store_true", help="print the tables of what --out holds, and stop")
    arguments = parser.parse_args()
    if arguments.table:
        lines = read(arguments.out)
        print("\n".join([*table(lines), "", *recipe_table(lines)]))
        return
    measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Train what --out does not hold yet, and add a line for each run."""
    end = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as folder:
        for name in SIZES:
            write_set(name, arguments.clips, Path(folder, f"{name}.csv"))
        while job := next(missing(read(arguments.out), arguments.seeds, arguments.random), None):
            if time.monotonic() >= end:
                return
            name, setting, seed = job
            line = {"set": name, "setting": setting, "seed": seed, **train(Path(folder), name, setting, seed)}
            with arguments.out.open("a") as file:
                file.write(json.dumps(line | {"env": environment()}) + "\n")


def missing(lines: list[dict], seeds: int, count: int) -> Iterator[tuple[str, str, int]]:
    """Yield (set, setting, seed) of the runs that have no line; the first seed decides which come after it."""
    done = {(line["set"], line["setting"], line["seed"]) for line in lines}
    drawn = [f"random {number}" for number in range(count)]
    first = [(name, setting, 0) for name in SETS for setting in (CHOSEN, *drawn)]
    if todo := [job for job in first if job not in done]:
        yield from todo
        return
    further = [
        (name, setting, seed)
        for seed in range(1, seeds)
        for name in SETS
        for setting in (CHOSEN, *selected(lines, name))
    ]
    recipes = [("pan4", setting, seed) for seed in range(RECIPE_SEEDS) for setting in (CHOSEN, RECIPE)]
    yield from (job for job in further + recipes if job not in done)


def selected(lines: list[dict], name: str) -> list[str]:
    """Return the random settings that the first seed selects, the best first."""
    first = {line["setting"]: accuracy(line) for line in lines if line["set"] == name and line["seed"] == 0}
    chosen = first.pop(CHOSEN)
    best = sorted(first, key=first.get, reverse=True)
    return [setting for place, setting in enumerate(best) if place < SELECTED or first[setting] > chosen]


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
            if name == "pan4" or (name == "pans" and row["source_clip"] in third):
                table.writerow([path, row["label"], row["youtube_source"]])
            if name == "fights" and row["label"] == "pan_left":
                fight = "fight" if row["source_clip"].startswith("fi") else "no fight"
                table.writerow([path, fight, row["youtube_source"]])


def train(folder: Path, name: str, setting: str, seed: int) -> dict:
    """Train one run; returns its settings and how many of the held-out videos its last weights recognise."""
    run_name = f"{name}-{setting.replace(' ', '')}-{seed}"
    started = time.process_time()
    _, training = run.run(settings(folder, name, setting, [f"train.name={run_name}", f"train.seed={seed}"]))
    result = json.loads((folder / run_name / "val_last.json").read_text())
    return {
        "lr": training.config.optim.lr,
        "epochs": training.config.train.epochs,
        "batch": training.config.train.batch,
        "correct": result["correct"],
        "evaluated": result["evaluated"],
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def settings(folder: Path, name: str, setting: str, words: list[str]) -> Config:
    """Return the configuration of a run. A random setting is the same for each seed."""
    here = [*RUN, f"train.runs={folder}", *words]
    ours = [*NETWORK, *SIZES[name], *here, f"data.train={folder / name}.csv"]
    config = configs.load("finetune.yaml", ours)
    if setting == CHOSEN:
        return config
    chosen = from_data.choose(config, ranks=1, folder=folder / f"{name}-lists")
    if setting == RECIPE:
        chosen.write_lists(keep=False)
        data = chosen.config.data
        lists = [f"data.{key}={getattr(data, key)}" for key in ("root", "train", "val", "class_names")]
        return configs.load(RECIPE, [*SIZES[name], *here, *lists])
    drawn = random.Random(f"{name}/{setting}")
    epochs = round(12 * 5 ** drawn.random())
    rate = chosen.config.optim.lr * 10 ** drawn.uniform(-1, 1)
    return configs.load(
        "finetune.yaml", [*ours, f"train.epochs={epochs}", f"optim.lr={rate:.4g}", "optim.lr_for_batch=64"]
    )


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(lines: list[dict]) -> list[str]:
    """Return the rows of the table in Markdown: for each set the chosen setting and those that were selected."""
    rows = [
        "| set | setting | rate for 64 clips | epochs | first seed | further seeds | mean of them | minus the chosen |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name in SETS:
        found = {(line["setting"], line["seed"]): line for line in lines if line["set"] == name}
        compared = (CHOSEN, *selected(lines, name))
        seeds = sorted({seed for _, seed in found if seed and all((setting, seed) in found for setting in compared)})
        chosen = [accuracy(found[CHOSEN, seed]) for seed in seeds]
        for setting in compared:
            first = found[setting, 0]
            further = [accuracy(found[setting, seed]) for seed in seeds]
            cells = [setting, f"{first['lr']:.3g}", str(first["epochs"]), f"{100 * accuracy(first):.1f}"]
            cells += [str(len(seeds)), f"{100 * statistics.mean(further):.1f}" if further else ""]
            cells += [difference(further, chosen) if further[1:] and setting != CHOSEN else ""]
            rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def difference(theirs: list[float], ours: list[float]) -> str:
    """Return the mean difference of runs on the same splits, in points, and its standard error."""
    differences = [100 * (their - our) for their, our in zip(theirs, ours, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{statistics.mean(differences):+.1f} ± {error:.1f}"


def recipe_table(lines: list[dict]) -> list[str]:
    """Return the rows of the table of the two recipes on all clips."""
    rows = ["| recipe | batch | epochs | correct of the held-out videos, by seed |", "|---|--:|--:|---|"]
    for setting, recipe in ((CHOSEN, "finetune.yaml"), (RECIPE, RECIPE)):
        if found := [line for line in lines if line["set"] == "pan4" and line["setting"] == setting]:
            each = ", ".join(f"{line['correct']} of {line['evaluated']}" for line in found)
            rows.append(f"| `{recipe}` | {found[0]['batch']} | {found[0]['epochs']} | {each} |")
    return rows


def accuracy(line: dict) -> float:
    return line["correct"] / line["evaluated"]


if __name__ == "__main__":
    main()
