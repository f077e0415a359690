"""Clips a second of each part of training: python benchmarks/throughput.py [PART ...] [--config RECIPE] [key=value ...]

    prepare   videos cut, and by the pyav head decoded, in threads; nothing more
    feed      whole batches on the device, left there
    compute   optimizer steps on one batch that is there
    train     optimizer steps on what is fed
    all       these four, in turns within one process

What `train` lacks to `compute` is the part of the feed that is not hidden. Counts that no noise touches come first:
frames decoded and bytes read per clip. One line of JSON a part, to stdout and to --out; the same clock as training's.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

import configs
from benchmarks.measure import spread
from benchmarks.recorder import Recorder
from configs import cli
from dali_pipes import Batch, cutter
from dali_pipes.feed import Feeder
from engine import distributed, program, runtime, training
from engine.clock import Clock
from engine.step import Tally
from engine.training import Training

PARTS = ("prepare", "feed", "compute", "train")
COUNTED = 20  # batches whose views are cut to count what decoding them takes


def main() -> int:
    parser = cli.Parser(prog="throughput.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_config_arguments(parser)
    parser.set_defaults(config="demo.yaml")
    parser.add_argument("--rounds", type=int, default=5, help="times that each part is measured (%(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="batches in one measurement (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="FOLDER", help="gets throughput.jsonl")
    arguments = parser.parse_args()
    arguments.parts = [word for word in arguments.overrides if "=" not in word] or ["all"]
    arguments.overrides = [word for word in arguments.overrides if "=" in word]
    if unknown := set(arguments.parts) - {*PARTS, "all"}:
        parser.error(f"{sorted(unknown)[0]}: no such part; there are {', '.join(PARTS)} and all")
    config = cli.from_arguments(arguments)
    return program.run("throughput.py", lambda: run(config, arguments))


def run(config: configs.Config, arguments: argparse.Namespace) -> None:
    """Measure the parts asked for, in turns, and record them."""
    parts = PARTS if "all" in arguments.parts else tuple(dict.fromkeys(arguments.parts))
    arguments.out.mkdir(parents=True, exist_ok=True)
    recorder = Recorder("throughput", arguments.out / "throughput.jsonl")
    with distributed.processes(runtime.pick_device(config.runtime)):
        bench = Bench(runtime.resolve(replace(config, data=replace(config.data, val=""))), arguments.steps)
        about = {"settings": configs.flat(bench.training.config)}
        recorder.add("counts", **bench.counts(), **about)
        for part in parts:
            bench.measure(part)  # warm caches, compiled kernels, full queues
        rates: dict[str, list[float]] = {part: [] for part in parts}
        waits: dict[str, list[float]] = {part: [] for part in parts}
        for turn in range(arguments.rounds):
            for part in parts[turn % len(parts) :] + parts[: turn % len(parts)]:
                rate, waited = bench.measure(part)
                rates[part].append(rate)
                waits[part].append(waited)
        for part in parts:
            median, quartiles = spread(rates[part])
            found = {"clips_per_s": median, "clips_per_s_iqr": quartiles, "waiting": spread(waits[part])[0]}
            recorder.add(part, **found, memory=runtime.peak_memory(bench.training.device), **about)
        bench.training.close()


class Bench:
    """A run of a recipe, built once, and its parts one by one."""

    def __init__(self, config: configs.Config, steps: int):
        self.training: Training = training.build(config)
        self.loader = self.training.train_loader
        self.steps = steps
        self.tally = Tally(self.training.device)
        self.feeder = Feeder(self.loader.catalog, self.loader.head, config.runtime.threads)
        self.epochs = itertools.count()
        resident = next(iter(self.batches()))
        self.resident = replace(resident, clips_BVTCHW=resident.clips_BVTCHW.clone())

    def batches(self) -> Iterator[Batch]:
        """Fed batches, epoch after epoch."""
        return itertools.chain.from_iterable(self.loader.epoch(epoch) for epoch in self.epochs)

    def counts(self) -> dict:
        """Frames decoded per frame used, frames decoded per clip and bytes read per clip, over the first batches."""
        plan, catalog = self.loader.plan, self.loader.catalog
        views = [plan.draw(0, step) for step in range(min(COUNTED, len(plan)))]
        cuts = [
            cutter.cut(catalog.video(int(row)), frames_VT.ravel())
            for view in views
            for row, frames_VT in zip(view.row_B, view.frames_BVT, strict=True)
        ]
        decoded = sum(cut.packets for cut in cuts) / len(cuts)
        return {
            "decoded_per_used": decoded / self.training.config.model.frames,
            "decoded_per_clip": decoded,
            "bytes_per_clip": sum(len(cut.data) for cut in cuts) / len(cuts),
            "clips": len(cuts),
        }

    def measure(self, part: str) -> tuple[float, float]:
        """(clips a second, part of the time spent waiting for data) over `steps` batches, less the clock's warm-up."""
        if part == "prepare":
            return self._prepare()
        source: Iterable[Batch] = itertools.repeat(self.resident) if part == "compute" else self.batches()
        clock = Clock(self.training.device, self.training.config.train.batch)
        for batch in itertools.islice(clock.fetch(source), self.steps + 2):
            if part != "feed":
                self.training.take_step(batch, self.tally)
        if self.training.device.type == "cuda":
            torch.cuda.synchronize()
        times = clock.read()
        return times.clips_per_second, times.data_fraction

    def _prepare(self) -> tuple[float, float]:
        plan = self.loader.plan
        prepared = itertools.chain.from_iterable(
            self.feeder.batches(plan, epoch, 0, self.training.config.runtime.prefetch) for epoch in self.epochs
        )
        next(prepared)
        began = time.perf_counter()
        for _ in itertools.islice(prepared, self.steps):
            pass
        return self.steps * self.training.config.train.batch / (time.perf_counter() - began), 1.0


if __name__ == "__main__":
    sys.exit(main())
