"""A run of thousands of steps, and steps beside saves: what they take of memory and of time.

Parts of `python -m tests.programs.reliability`. Each takes a number of steps and a source of chance.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.programs.reliability.fault_loops import settings, write_set
from tests.support import tiny
from tests.support.memory import resident_bytes
from tests.support.ranks import forked

# isort: split
import torch

from configs import Config
from dali_pipes import Batch
from engine.runs.saver import Saver
from engine.train.fit import Trainer
from engine.train.step import Tally
from engine.train.training import Training, build

CPU = torch.device("cpu")
SAMPLES = 20  # of memory, over a run


def memory(steps: int, chance: random.Random) -> dict:
    """Train for `steps` steps over videos, with evaluations and checkpoints; compare the end with the first evaluation.

    The resident memory of the start and the end are medians of three samples each, one sample for each evaluation.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = _long(settings(folder, write_set(folder / "videos")), steps)
        orphans = forked.finish(forked.start(config, 1, partial(_sample, folder / "samples")), patience=7200)
        samples = [json.loads(line) for line in (folder / "samples").read_text().splitlines()]
        finished = forked.status(config).get("state") == "finished"
    first, last = samples[:3], samples[-3:]
    start, end = (statistics.median(sample["bytes"] for sample in some) for some in (first, last))
    found = {"steps": samples[-1]["step"], "evaluations": len(samples), "finished": finished, "orphans": orphans}
    found["resident_mib"] = [round(sample["bytes"] / 2**20, 1) for sample in samples]
    found["growth_percent"] = round(100 * (end / start - 1), 2)
    for count in ("descriptors", "threads"):
        found[count] = [min(sample[count] for sample in samples), max(sample[count] for sample in samples)]
    return found


def saves(steps: int, chance: random.Random) -> dict:
    """Train a ResNet-50; compare the time of steps that a save begins before with the time of as many others.

    One thread computes, so that the one that writes has a core, as on a host with more cores than GPUs.
    """
    torch.set_num_threads(1)
    times: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as name:
        training, batch = _resnet50(Path(name))
        saver, tally, copies, overlaps = Saver(Path(name), keep=1), Tally(CPU), [], []
        for number in range(-2, 2 * steps):  # the first two steps warm up
            saving = number % 2 == 0
            saver.finish()
            began = time.perf_counter()
            if saving:
                saver.start(training.step, training.state())
            copied = time.perf_counter()
            training.take_step(batch, tally)
            ended = time.perf_counter()
            if number >= 0:
                times[saving].append(ended - copied)
            if number >= 0 and saving:
                copies.append(copied - began)
                overlaps.append(saver.busy)
        saver.finish()
        training.close()
    ratios = [during / alone for during, alone in zip(times[True], times[False], strict=True)]
    found = {"steps": steps, "still_writing_after_the_step": sum(overlaps)}
    found["seconds_of_a_copy"] = round(statistics.median(copies), 3)
    found["seconds_of_a_step"] = round(statistics.median(times[False]), 3)
    found["step_during_a_save_over_one_without"] = [round(ratio, 3) for ratio in statistics.quantiles(ratios, n=4)]
    return found


def _long(config: Config, steps: int) -> Config:
    """Make a run of `fault_loops.settings` take so many steps, with SAMPLES evaluations and checkpoints."""
    epochs = -(-steps // 6)
    every = max(1, epochs // SAMPLES)
    train = {"epochs": epochs, "eval_every": every, "checkpoint_every": every, "checkpoint_minutes": 0.05}
    optim = replace(config.optim, lr=1e-3, milestones=())
    return replace(config, train=replace(config.train, **train), optim=optim)


def _sample(file: Path) -> None:
    """Let this process append what it occupies to a file after each evaluation."""
    evaluate = Trainer.evaluate

    def evaluate_and_sample(trainer: Trainer) -> str:
        line = evaluate(trainer)
        sample = {"step": trainer.training.step, "bytes": resident_bytes()}
        sample |= {"descriptors": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task"))}
        with file.open("a") as samples:
            samples.write(json.dumps(sample) + "\n")
        return line

    Trainer.evaluate = evaluate_and_sample


def _resnet50(folder: Path) -> tuple[Training, Batch]:
    """Return a training of a whole ResNet-50 and one batch of it: a clip of eight frames of 112 pixels."""
    model = {"backbone": "resnet50", "width": 64, "frames": 8}
    config = tiny.config(train={"runs": str(folder), "batch": 1}, model=model, clip={"size": 112})
    loaders = {"train": tiny.RowLoader(6, 1, frames=8, size=112), "val": None}
    training = build(config, open_loader=lambda config, split, *other, **named: loaders[split])
    return training, next(loaders["train"].epoch(0))
