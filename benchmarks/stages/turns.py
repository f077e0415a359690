"""Measure stages of a recipe alternately, and report them as a table with a conclusion, or as JSON lines."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

import configs
from benchmarks.harness.measure import spread
from benchmarks.harness.numbered_videos import SET, with_set
from benchmarks.harness.record import Recorder, settings_of
from benchmarks.stages import OF_FILES, STAGES
from benchmarks.stages.bench import Bench
from configs.progress import format_rate
from dali_pipes.device import pick_device
from engine import activity, distributed, runtime
from engine.train import from_data

NAMES = {"cut": "Reading", "decode": "Decoding", "feed": "Making clips"}
SAME = 1.25  # times the rate of the feed: a stage below this rate limits the feed
DENSE = 3.0  # frames decoded per used frame, above which transcoding helps most


@dataclass
class Case:
    """One configuration, its bench, and its measurements."""

    label: str  # the settings that differ from other cases; empty for a single case
    config: configs.Config
    bench: Bench
    rates: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @cached_property
    def counts(self) -> dict:
        """Count frames decoded and bytes read per clip; empty for synthetic clips."""
        return self.bench.counts() if self.config.data.source == "video" else {}

    def measure(self, stage: str) -> None:
        with activity.doing(f"measuring {stage}"):
            rate, waited = self.bench.measure(stage)
        self.rates[stage].append(rate)
        self.waits[stage].append(waited)

    def name(self, stage: str) -> str:
        return f"{stage}/{self.label}" if self.label else stage


def run(config: configs.Config, arguments: argparse.Namespace) -> None:
    """Measure the requested stages of every case alternately, and report them."""
    end = time.monotonic() + arguments.seconds
    stages = STAGES if "all" in arguments.stages else tuple(dict.fromkeys(arguments.stages))
    if config.data.source == "synthetic":
        stages = tuple(stage for stage in stages if stage not in OF_FILES)
    asked = config.runtime
    with (
        distributed.processes(pick_device(asked.device), asked.timeout),
        from_data.with_lists(config, None) as config,
    ):
        report = Report(arguments, stages)
        cases = [make_case(config, words, arguments) for words in variants(arguments.vary)]
        for case in cases:
            report.counts(case)
        turns = [(case, stage) for case in cases for stage in stages]
        for case, stage in turns:
            with activity.doing(f"warming up {stage}"):
                case.bench.measure(stage)  # warm caches, compiled kernels, full queues
        for turn in range(arguments.rounds):
            first = turn % len(turns)
            for case, stage in turns[first:] + turns[:first]:
                if not turn or distributed.any_rank(time.monotonic() < end):
                    case.measure(stage)
        for case in cases:
            report.rates(case)
            case.bench.close()


class Report:
    """Prints results as a table and a conclusion on rank 0, and writes them as JSON if requested."""

    def __init__(self, arguments: argparse.Namespace, stages: tuple[str, ...]):
        self._stages = stages
        self._plain = not arguments.json
        writes = distributed.rank() == 0
        if arguments.out and writes:
            arguments.out.mkdir(parents=True, exist_ok=True)
        file = arguments.out / "throughput.jsonl" if arguments.out else Path(os.devnull)
        self._recorder = Recorder("throughput", file, quiet=self._plain) if writes else None

    def counts(self, case: Case) -> None:
        """Report the counts, which noise does not affect."""
        if self._recorder and case.counts:
            self._recorder.add(case.name("counts"), **case.counts, settings=settings_of(case.config))

    def rates(self, case: Case) -> None:
        """Report the stages of a case and the conclusion from them."""
        if not self._recorder:
            return
        ranks = {"ranks": distributed.world_size(), "settings": settings_of(case.config)}
        medians = {}
        for stage in self._stages:
            medians[stage], quartiles = spread(case.rates[stage])
            waiting = {} if stage in OF_FILES else {"waiting": spread(case.waits[stage])[0]}
            found = {"clips_per_s": medians[stage], "clips_per_s_iqr": quartiles, **waiting}
            self._recorder.add(case.name(stage), **found, **case.bench.memory(), **ranks)
        if {"feed", "compute", "train"} <= medians.keys():
            self._recorder.add(case.name("hidden"), **shares(medians), **ranks)
        if self._plain:
            Console().print(table(case, self._stages))
            print(verdict(medians, case.counts, case.config))


def table(case: Case, stages: tuple[str, ...]) -> Table:
    """Make the table of a case: clips/s with quartiles, and the share of the step spent waiting for data."""
    made = Table(title=case.label or None)
    for heading in ("stage", "clips/s", "quartiles", "waited"):
        made.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage in stages:
        median, (low, high) = spread(case.rates[stage])
        waited = f"{spread(case.waits[stage])[0]:.0%}" if stage == "train" else ""
        made.add_row(stage, f"{median:.1f}", f"{low:.1f} - {high:.1f}", waited)
    return made


def shares(medians: dict[str, float]) -> dict[str, float]:
    """Return training's speed as a fraction of computing's, and the fraction of loading time that is not hidden."""
    feed, compute, train = (1 / medians[stage] for stage in ("feed", "compute", "train"))  # seconds a clip
    return {"train_over_compute": compute / train, "feed_not_hidden": min(max((train - compute) / feed, 0.0), 1.0)}


def verdict(medians: dict[str, float], counts: dict, config: configs.Config) -> str:
    """Name the bottleneck, its deficit, and the best remedy in a sentence."""
    if not {"feed", "compute"} <= medians.keys():
        return "Measure feed and compute as well to see which of them limits training."
    feed, compute = medians["feed"], medians["compute"]
    if feed >= compute:
        takes, loaded = format_rate(compute), format_rate(feed)
        return f"The network limits training: it takes {takes} of the {loaded} clips/s that can be loaded."
    slow = next((stage for stage in OF_FILES if medians.get(stage, math.inf) < SAME * feed), "feed")
    missing = f"it gives {format_rate(medians[slow])} clips/s, and the network takes {format_rate(compute)}"
    return f"{NAMES[slow]} limits training by {1 - feed / compute:.0%}: {missing}; {remedy(slow, counts, config)}."


def remedy(stage: str, counts: dict, config: configs.Config) -> str:
    """Name the setting or command that helps most if `stage` is the bottleneck."""
    if stage == "decode" and counts["decoded_per_used"] > DENSE:
        return f"`python tools/prepare.py transcode {config.data.train} --out FOLDER` makes decoding cheaper"
    if stage == "decode" and config.runtime.device == "cuda" and config.data.decoder != "hybrid":
        return "data.decoder=hybrid lets CPU threads decode a part"
    if stage == "cut":
        return "put the videos on a faster disk, or raise runtime.threads"
    return f"more cores help: runtime.threads is {config.runtime.threads}"


def variants(varied: list[str]) -> list[dict[str, str]]:
    """Return the values of each --vary, one key at a time; one case without changes if there is none."""
    pairs = [value.partition("=")[::2] for value in varied]
    return [{key: value} for key, values in pairs for value in values.split(",")] or [{}]


def make_case(config: configs.Config, words: dict[str, str], arguments: argparse.Namespace) -> Case:
    """Make a case with the values of `words`, on its generated set, or on the default one if there is no list."""
    settings = [f"{key}={value}" for key, value in words.items() if not key.startswith(SET)]
    made = dict(word.removeprefix(SET).split("=", 1) for word in arguments.set_words)
    made |= {key.removeprefix(SET): value for key, value in words.items() if key.startswith(SET)}
    config = configs.override(config, ["model.pretrained=none", *settings])
    config = replace(config, data=replace(config.data, val=""))
    if config.data.source == "video" and not made and not os.path.lexists(config.data.train.partition(":")[0]):
        made = {"count": "64"}
    folder = (arguments.out or Path("runs")) / "made_sets"
    config = distributed.one_rank_first(partial(with_set, config, folder, made))
    config = runtime.resolve(config)
    return Case(",".join(f"{key}={value}" for key, value in words.items()), config, Bench(config, arguments.steps))
