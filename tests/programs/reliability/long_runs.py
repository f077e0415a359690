"""A run of thousands of steps, and steps next to saves: their memory and time.

Parts of `python -m tests.programs.reliability`. Each takes a number of steps and a random generator.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
SAMPLES = 20  # memory samples in a run


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

    One thread computes, so that the one that writes has a core, as on a host with more cores than GPUs. Steps next to a
    process that hashes show how much of the difference is due to the machine, whose cores share caches and power.
    """
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {"alone": [], "saving": [], "beside": []}
    copies = []
    with tempfile.TemporaryDirectory() as name:
        training, batch = _resnet50(Path(name))
        saver, tally = Saver(Path(name), keep=1), Tally(CPU)
        for number in range(-1, steps):  # the first round warms up
            for way, values in times.items():
                with _hashing() if way == "beside" else nullcontext():
                    began = time.perf_counter()
                    if way == "saving":
                        saver.start(training.step, training.state())
                    copied = time.perf_counter()
                    training.take_step(batch, tally)
                    ended = time.perf_counter()
                saver.finish()
                if number >= 0:
                    values.append(ended - copied)
                    copies += [copied - began] if way == "saving" else []
        training.close()
    return {
        "steps": steps,
        "seconds_of_a_copy": round(statistics.median(copies), 3),
        "seconds_of_a_step": round(statistics.median(times["alone"]), 3),
        "step_during_a_save_over_one_without": _ratios(times["saving"], times["alone"]),
        "step_beside_another_process_over_one_without": _ratios(times["beside"], times["alone"]),
    }


def _ratios(some: list[float], others: list[float]) -> list[float]:
    """Return the quartiles of the ratios of times."""
    ratios = [one / other for one, other in zip(some, others, strict=True)]
    return [round(ratio, 3) for ratio in statistics.quantiles(ratios, n=4)]


@contextmanager
def _hashing() -> Iterator[None]:
    """Keep another process busy with hashes for the block."""
    script = "import hashlib\ncontent = bytes(1 << 24)\nprint(flush=True)\nwhile True: hashlib.sha256(content)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield
        process.kill()


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
