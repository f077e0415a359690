"""Clips a second of each stage of training.

    python benchmarks/throughput.py [STAGE ...] [--config RECIPE] [--vary KEY=A,B] [section.key=value ...]

Stages: cut, decode, feed, compute, train, or all: see benchmarks/stages.py. All are measured in turns within one
process, and so are the values of --vary: `--vary train.batch=8,16`, `--vary runtime.threads=1,2,4`, `--vary
model.frames=8,16`. Words that begin with `video.` make a set to read instead of the recipe's: `video.interval=16
video.frames=300 video.count=64 video.codec=hevc`, and can be varied, too.

Counts that no noise touches come first: frames decoded per frame used, bytes read per clip. One line of JSON a case, to
stdout and to FOLDER/throughput.jsonl.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import configs
from benchmarks.harness.measure import spread
from benchmarks.harness.numbered_videos import KINDS, with_set
from benchmarks.harness.record import Recorder, settings_of
from benchmarks.stages import STAGES, Bench
from configs import cli
from engine import distributed, program, runtime

SET = "video."


@dataclass
class Case:
    """One setting of everything, its bench, and what was measured so far."""

    label: str  # what distinguishes it from the others; empty where there are no others
    config: configs.Config
    bench: Bench
    rates: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, stage: str) -> None:
        rate, waited = self.bench.measure(stage)
        self.rates[stage].append(rate)
        self.waits[stage].append(waited)

    def name(self, stage: str) -> str:
        return f"{stage}/{self.label}" if self.label else stage


def main() -> int:
    parser = cli.Parser(prog="throughput.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_config_arguments(parser)
    parser.set_defaults(config="demo.yaml")
    parser.add_argument("--vary", action="append", default=[], metavar="KEY=A,B", help="measure each of these values")
    parser.add_argument("--rounds", type=int, default=5, help="times that each stage is measured (%(default)s)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="one round, and more for so long")
    parser.add_argument("--steps", type=int, default=20, help="batches in one measurement (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="FOLDER", help="gets throughput.jsonl")
    arguments = parser.parse_args()
    words, arguments.overrides = arguments.overrides, [word for word in arguments.overrides if "=" in word]
    arguments.stages = [word for word in words if "=" not in word] or ["all"]
    arguments.set_words = [word for word in arguments.overrides if word.startswith(SET)]
    arguments.overrides = [word for word in arguments.overrides if not word.startswith(SET)]
    varied = [value.partition("=")[0] for value in arguments.vary] + [w.partition("=")[0] for w in arguments.set_words]
    if unknown := set(arguments.stages) - {*STAGES, "all"}:
        parser.error(f"{sorted(unknown)[0]}: no such stage; there are {', '.join(STAGES)} and all")
    if unknown := [key for key in varied if key.startswith(SET) and key.removeprefix(SET) not in KINDS]:
        parser.error(f"{unknown[0]}: no such property of a video; there are {', '.join(KINDS)}")
    config = cli.from_arguments(arguments)
    return program.run("throughput.py", lambda: run(config, arguments))


def run(config: configs.Config, arguments: argparse.Namespace) -> None:
    """Measure the stages asked for, of every case in turns, and record them."""
    end = time.monotonic() + arguments.seconds
    stages = STAGES if "all" in arguments.stages else tuple(dict.fromkeys(arguments.stages))
    arguments.out.mkdir(parents=True, exist_ok=True)
    recorder = Recorder("throughput", arguments.out / "throughput.jsonl")
    with distributed.processes(runtime.resolve(config).runtime.device):
        cases = [make_case(config, words, arguments) for words in variants(arguments.vary)]
        for case in cases:
            recorder.add(case.name("counts"), **case.bench.counts(), settings=settings_of(case.config))
        turns = [(case, stage) for case in cases for stage in stages]
        for case, stage in turns:
            case.bench.measure(stage)  # warm caches, compiled kernels, full queues
        for turn in range(arguments.rounds):
            first = turn % len(turns)
            for case, stage in turns[first:] + turns[:first]:
                if not turn or time.monotonic() < end:
                    case.measure(stage)
        for case in cases:
            record(recorder, case, stages)
            case.bench.close()


def variants(varied: list[str]) -> list[dict[str, str]]:
    """The values of each --vary, one key at a time; one case without any where there is none."""
    pairs = [value.partition("=")[::2] for value in varied]
    return [{key: value} for key, values in pairs for value in values.split(",")] or [{}]


def make_case(config: configs.Config, words: dict[str, str], arguments: argparse.Namespace) -> Case:
    """A case under the values of `words`, on the set that it asks for."""
    settings = [f"{key}={value}" for key, value in words.items() if not key.startswith(SET)]
    made = dict(word.removeprefix(SET).split("=", 1) for word in arguments.set_words)
    made |= {key.removeprefix(SET): value for key, value in words.items() if key.startswith(SET)}
    config = configs.override(config, settings)
    config = with_set(replace(config, data=replace(config.data, val="")), arguments.out / "made_sets", made)
    config = runtime.resolve(config)
    return Case(",".join(f"{key}={value}" for key, value in words.items()), config, Bench(config, arguments.steps))


def record(recorder: Recorder, case: Case, stages: tuple[str, ...]) -> None:
    """A line for each stage, and one for what they say together."""
    settings = settings_of(case.config)
    medians = {}
    for stage in stages:
        medians[stage], quartiles = spread(case.rates[stage])
        found = {"clips_per_s": medians[stage], "clips_per_s_iqr": quartiles, "waiting": spread(case.waits[stage])[0]}
        recorder.add(case.name(stage), **found, **case.bench.memory(), settings=settings)
    if {"feed", "compute", "train"} <= medians.keys():
        feed, compute, train = (1 / medians[stage] for stage in ("feed", "compute", "train"))  # seconds a clip
        hidden = {"train_over_compute": compute / train, "feed_not_hidden": (train - compute) / feed}
        recorder.add(case.name("hidden"), **hidden, settings=settings)


if __name__ == "__main__":
    sys.exit(main())
