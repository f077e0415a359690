"""Compare the rate and the length that finetune.yaml chooses with random ones, on your own sets.

    python -m benchmarks.network.finetune --set tennis=tennis.csv --set fights=fights.csv --out FILE.jsonl \\
        [section.key=value ...] [--minutes 15]
    python -m benchmarks.network.finetune --table --out FILE.jsonl     # of docs/recipes.md

A set is a list as data.train takes it. The words after the options are settings of every run: the network, the weights
that it starts from, the size of clips, data.group. Rates for 64 clips are drawn from 0.005 to 0.5, lengths from 12 to
60 epochs, both on a logarithmic scale. They do not depend on the rules, so a new rule needs only runs of its own. A
seed also draws the split.

The first seed only selects: the random settings that were better than the chosen one, and at least the best two. Their
results with that seed are biased by the selection, so they are compared with the chosen setting only on further seeds,
with equal splits: all of them, or the best (--most). --first-seed separates these seeds from those with which a rule
was found.

Runs that --out contains are not repeated, and no run starts after --minutes, so several calls can share the work.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="section.key=value", help="settings of every run")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="NAME=LIST")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--seeds", type=int, default=4, help="seeds; the first one selects (%(default)s)")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="the first seed; further ones follow it (%(default)s)"
    )
    parser.add_argument("--random", type=int, default=10, metavar="N", help="random settings (%(default)s)")
    parser.add_argument("--most", type=int, default=10, metavar="N", help="most of them on further seeds (%(default)s)")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--table", action="store_true", help="print the table of the runs in --out, and stop")
    return parser.parse_args()


if __name__ == "__main__":  # before the imports below, which take seconds: --help and mistakes are answered at once
    ARGUMENTS = parse()

import configs
from benchmarks.harness.record import environment
from configs import Config
from engine.train import from_data, run

RUN = ["runtime.device=cpu", "runtime.threads=1", "train.eval_every=1000"]  # only the last epoch is evaluated
CHOSEN = "chosen"
RATES = (0.005, 0.5)  # for 64 clips, of random settings
EPOCHS = (12, 60)
SELECTED = 2  # minimum of random settings that are compared on further seeds


def main(arguments: argparse.Namespace) -> None:
    if arguments.table:
        print("\n".join(table(read(arguments.out))))
        return
    measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Train the runs that --out does not contain, and add a line for each."""
    end = time.monotonic() + 60 * arguments.minutes
    sets = dict(word.split("=", 1) for word in arguments.sets)
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        numbers = arguments.random, arguments.most
        while job := next(missing(read(arguments.out), tuple(sets), seeds, *numbers), None):
            if time.monotonic() >= end:
                return
            name, setting, seed = job
            words = [*RUN, *arguments.words, f"data.train={sets[name]}", f"train.seed={seed}"]
            line = {"set": name, "setting": setting, "seed": seed, **train(Path(folder), name, setting, words)}
            with arguments.out.open("a") as file:
                file.write(json.dumps(line | {"env": environment()}) + "\n")


def missing(
    lines: list[dict], sets: Sequence[str], seeds: range, count: int, most: int
) -> Iterator[tuple[str, str, int]]:
    """Yield (set, setting, seed) of the runs that have no line; the first seed decides which come after it."""
    done = {(line["set"], line["setting"], line["seed"]) for line in lines}
    drawn = [f"random {number}" for number in range(count)]
    first = [(name, setting, seeds[0]) for name in sets for setting in (CHOSEN, *drawn)]
    if todo := [job for job in first if job not in done]:
        yield from todo
        return
    further = [
        (name, setting, seed)
        for seed in seeds[1:]
        for name in sets
        for setting in (CHOSEN, *selected(lines, name)[:most])
    ]
    yield from (job for job in further if job not in done)


def selected(lines: list[dict], name: str) -> list[str]:
    """Return the random settings that the first seed selects, the best first."""
    seed = first_seed(lines, name)
    first = {line["setting"]: accuracy(line) for line in lines if line["set"] == name and line["seed"] == seed}
    chosen = first.pop(CHOSEN)
    best = sorted(first, key=first.get, reverse=True)
    return [setting for place, setting in enumerate(best) if place < SELECTED or first[setting] > chosen]


def first_seed(lines: list[dict], name: str) -> int:
    return min(line["seed"] for line in lines if line["set"] == name)


def train(folder: Path, name: str, setting: str, words: list[str]) -> dict:
    """Train one run; return its settings and the number of held-out videos that its last weights recognise."""
    started = time.process_time()
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        config = settings(name, setting, [*words, f"train.runs={runs}", "train.name=run"])
        _, training = run.run(config)
        result = json.loads(Path(runs, "run", "val_last.json").read_text())
    return {
        "lr": training.config.optim.lr,
        "epochs": training.config.train.epochs,
        "batch": training.config.train.batch,
        "correct": result["correct"],
        "evaluated": result["evaluated"],
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def settings(name: str, setting: str, words: list[str]) -> Config:
    """Return the configuration of a run. A random setting changes only rate and length, equally for each seed."""
    config = configs.load("finetune.yaml", words)
    if setting == CHOSEN:
        return config
    chosen = from_data.choose(config, ranks=1).config.optim
    drawn = random.Random(f"{name}/{setting}")
    (shortest, longest), (lowest, highest) = EPOCHS, RATES
    epochs = round(shortest * (longest / shortest) ** drawn.random())
    rate = lowest * (highest / lowest) ** drawn.random()
    multiples = ",".join(f"{multiple:g}" for multiple in chosen.fc_lr_mult)
    changes = [f"train.epochs={epochs}", f"optim.lr={rate:.4g}", f"optim.lr_for_batch={chosen.lr_for_batch}"]
    return configs.load("finetune.yaml", [*words, *changes, f"optim.fc_lr_mult=[{multiples}]"])


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(lines: list[dict]) -> list[str]:
    """Return the rows of the table in Markdown: for each set the chosen setting and those that were selected."""
    rows = [
        "| set | setting | rate for 64 clips | epochs | first seed | further seeds | mean of them | minus the chosen |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name in dict.fromkeys(line["set"] for line in lines):
        found = {(line["setting"], line["seed"]): line for line in lines if line["set"] == name}
        seeds_of = {setting: {seed for of, seed in found if of == setting} for setting, _ in found}
        selecting = first_seed(lines, name)
        for setting in (CHOSEN, *selected(lines, name)):
            seeds = sorted(seeds_of[setting] & seeds_of[CHOSEN] - {selecting})
            ours, theirs = ([accuracy(found[which, seed]) for seed in seeds] for which in (CHOSEN, setting))
            first = found[setting, selecting]
            cells = [setting, f"{first['lr']:.3g}", str(first["epochs"]), f"{100 * accuracy(first):.1f}"]
            cells += [str(len(seeds)), f"{100 * statistics.mean(theirs):.1f}" if theirs else ""]
            cells += [difference(theirs, ours) if theirs[1:] and setting != CHOSEN else ""]
            rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def difference(theirs: list[float], ours: list[float]) -> str:
    """Return the mean difference of runs on the same splits, in points, and its standard error."""
    differences = [100 * (their - our) for their, our in zip(theirs, ours, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{statistics.mean(differences):+.1f} ± {error:.1f}"


def accuracy(line: dict) -> float:
    return line["correct"] / line["evaluated"]


if __name__ == "__main__":
    main(ARGUMENTS)
