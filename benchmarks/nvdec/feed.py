"""Question 4: is the GPU kept busy? The project's loader is compared with the training step alone."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

import configs
from benchmarks.harness.measure import summary
from benchmarks.harness.numbered_videos import VideoSpec, write_videos
from benchmarks.harness.record import watched_gpu
from benchmarks.harness.session import Probe
from benchmarks.nvdec.scale import Scale
from configs import Config
from dali_pipes import Batch
from engine import runtime
from engine.train import training
from engine.train.clock import Clock
from engine.train.step import Tally
from engine.train.training import Training

SPARE = 0.03  # the share of time that a GPU may wait and still counts as fed
BUSY = 0.9  # the utilisation from which something counts as the bottleneck


def run_section(probe: Probe) -> None:
    scale, folder = probe.scale, probe.folder
    specs = [replace(scale.usual, codec=codec) for codec in scale.codecs] + [replace(scale.usual, interval=1)]
    cases = {
        f"feed/{spec.name}/{part}": (measure, scale, folder, spec, part) for spec in specs for part in ("feed", "both")
    }
    cases["feed/step"] = (measure, scale, folder, scale.usual, "step")
    write_videos(folder, [case[3] for case in probe.wanted(cases).values()])
    found = probe.run_alternately([cases], _summary)
    for video in (f"feed/{spec.name}" for spec in specs):
        if {f"{video}/feed", f"{video}/both", "feed/step"} <= found.keys():
            probe.recorder.add(video, **_judge(found["feed/step"], found[f"{video}/feed"], found[f"{video}/both"]))


def _summary(answers: list[dict]) -> dict:
    others = {key: statistics.median(a[key] for a in answers) for key in ("data_fraction", "cores_busy")}
    return summary(answers, "clips_per_s") | others | {"engines_busy": answers[0]["engines_busy"]}


def _judge(step: dict, feed: dict, both: dict) -> dict:
    """Judge if the loader keeps up with the step, and if not, name the bottleneck."""
    cores, engines = len(os.sched_getaffinity(0)), feed["engines_busy"]
    if both["data_fraction"] <= SPARE:
        short = "nothing"
    elif engines and engines >= 100 * BUSY:
        short = "decoding engines"
    elif feed["cores_busy"] >= BUSY * cores:
        short = "cores"
    else:
        short = "neither cores nor engines: threads wait for each other or for the GPU"
    rates = {"step": step["clips_per_s"], "feed": feed["clips_per_s"], "both": both["clips_per_s"]}
    return {"clips_per_s": rates, "feed_over_step": rates["feed"] / rates["step"], "short": short}


def measure(scale: Scale, folder: Path, spec: VideoSpec, part: str) -> dict:
    """Return clips per second over one epoch without its first steps, the share of waiting, and the busy cores.

    `part`: "feed" only loads batches, "step" trains on one batch in memory, "both" trains on loaded batches.
    """
    trainer = _trainer(scale, folder, spec)
    clock = Clock(trainer.training.device, scale.train_batch)
    began, worked = time.perf_counter(), time.process_time()
    for batch in clock.fetch(trainer.batches(part)):
        if part != "feed":
            trainer.training.take_step(batch, trainer.tally)
    times = clock.read()
    return {
        "clips_per_s": times.clips_per_second,
        "data_fraction": times.data_fraction,
        "cores_busy": (time.process_time() - worked) / (time.perf_counter() - began),
        "engines_busy": trainer.engines_busy,
    }


@dataclass
class _Trainer:
    """A run of a recipe, built and warmed up."""

    training: Training
    tally: Tally
    resident: Batch
    epochs: Iterator[int]
    engines_busy: float | None = None  # per cent of the time that NVDEC is busy during `feed`

    def batches(self, part: str) -> Iterator[Batch]:
        """Yield an epoch of the batches that a part consumes."""
        loader = self.training.train_loader
        return itertools.repeat(self.resident, len(loader)) if part == "step" else loader.epoch(next(self.epochs))


@cache
def _trainer(scale: Scale, folder: Path, spec: VideoSpec) -> _Trainer:
    """Build the trainer once per process; it has loaded an epoch and taken a few steps."""
    run = training.build(runtime.resolve(_config(scale, folder, spec)))
    with watched_gpu("utilization.decoder") as readings:
        for batch in run.train_loader.epoch(0):
            resident = batch
    resident = replace(resident, clips_BVTCHW=resident.clips_BVTCHW.clone())
    trainer = _Trainer(run, Tally(run.device), resident, itertools.count(1), max(readings, default=None))
    for _ in range(3):
        run.take_step(resident, trainer.tally)
    trainer.tally.read()
    if run.device.type == "cuda":
        torch.cuda.synchronize()
    return trainer


def _config(scale: Scale, folder: Path, spec: VideoSpec) -> Config:
    """Return the usual recipe over one video, listed as often as an epoch needs."""
    listed = folder / f"{spec.name}.list"
    listed.write_text(f"{spec.path(folder).name} 0\n" * (scale.train_batch * scale.train_steps))
    settings = (
        f"data.root={folder}",
        f"data.train={listed}",
        "data.val=",
        f"data.decoder={scale.head}",
        "model.pretrained=none",
        f"train.batch={scale.train_batch}",
        f"runtime.device={'cuda' if scale.device == 'gpu' else 'cpu'}",
        *scale.recipe,
    )
    return configs.load("tsm_k400_nhwc.yaml", settings)
