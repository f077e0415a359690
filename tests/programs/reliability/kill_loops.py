"""Loops that kill whole runs and their saves at random moments or damage checkpoints, and count the losses.

Parts of `python -m tests.programs.reliability`. Each takes a number of repetitions and a random generator.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.support import programs, tiny  # before torch: engine sets how threads wait
from tests.support.ranks import forked

# isort: split
import torch

from configs import Config
from engine.runs import checkpoint, checkpoint_files
from tests.support.ranks.faults import fail_at


def settings(folder: str, ranks: int) -> Config:
    """Return two epochs of six steps, with a checkpoint at each log line, every second step.

    Three ranks need a network whose gradients travel in two buckets: there the order of a sum matters. A rank whose
    peer is killed before they have joined waits for `timeout` seconds.
    """
    train = {"runs": folder, "batch": 12, "ema": 0.9, "mixup": 0.2, "checkpoint_minutes": 1e-9}
    model = {"width": 32 if ranks > 2 else 8}
    return tiny.config(train=train, model=model, runtime={"timeout": forked.PATIENCE / 6})


def kill_runs(ranks: int, kills: int, chance: random.Random) -> dict:
    """Kill a random rank of a run at a random moment, resume, and compare the weights at the end; `kills` times."""
    with tempfile.TemporaryDirectory() as folder:
        config = settings(folder, ranks)
        forked.finish(forked.start(config, ranks))
        wanted, steps = forked.digest(config), 12
        if wanted is None:
            raise RuntimeError("\n".join(forked.stderr(config, rank) for rank in range(ranks)))
    landed = identical = orphans = resumed = 0
    for _ in range(kills):
        with tempfile.TemporaryDirectory() as folder:
            config = settings(folder, ranks)
            victim, step = chance.randrange(ranks), chance.randrange(steps)
            orphans += forked.finish(forked.start(config, ranks, partial(fail_at, victim, step, "any", "kill")))
            landed += forked.digest(config) is None
            resumed += bool(checkpoint_files.steps(config.train.folder / "checkpoints"))
            orphans += forked.finish(forked.start(config, ranks))
            identical += forked.digest(config) == wanted
    return {
        "kills": kills,
        "before_the_end": landed,
        "after_a_checkpoint": resumed,
        "bit_identical": identical,
        "orphans": orphans,
    }


def payload(step: int, size: int = 500_000) -> dict:
    """Return a checkpoint of 2 MB."""
    return {"model": {"weight": torch.arange(size, dtype=torch.float32) + step}, "step": step}


def save_for_ever(folder: Path) -> None:
    """Save without a pause; `acknowledged` holds the newest step whose save has returned."""
    torch.set_num_threads(1)
    for step in range(1, 10**6):
        checkpoint.save(checkpoint_files.step_file(folder, step), payload(step), step=step)
        (folder / "acknowledged").write_text(str(step))
        checkpoint_files.tidy(folder, keep=2)


def kill_saves(kills: int, chance: random.Random) -> dict:
    """Kill a process that saves without a pause, `kills` times."""
    lost = left = inside = 0
    for _ in range(kills):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            child = programs.process(save_for_ever, folder)
            child.start()
            while not (folder / "acknowledged").exists():
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.05))
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            inside += bool(list(folder.glob(".tmp-*")))
            acknowledged = int((folder / "acknowledged").read_text() or 0)
            newest = checkpoint_files.latest(folder)
            lost += newest is None or checkpoint.load(newest)["step"] < acknowledged
            checkpoint_files.remove_leftovers(folder)
            alone = [path for path in folder.glob("*.pt.json") if not path.with_suffix("").exists()]
            left += len([*folder.glob(".tmp-*"), *alone])
    return {"kills": kills, "with_an_unfinished_file": inside, "lost": lost, "files_left": left}


def damage(times: int, chance: random.Random) -> dict:
    """Damage the newest of two checkpoints in four ways; it must be skipped."""
    stepped_over = 0
    with tempfile.TemporaryDirectory() as name:
        for number in range(times):
            folder = Path(name) / str(number)
            folder.mkdir()
            older, newest = (checkpoint_files.step_file(folder, step) for step in (1, 2))
            for step, path in enumerate((older, newest), 1):
                checkpoint.save(path, payload(step, 20_000), step=step)
            content = bytearray(newest.read_bytes())
            at = chance.randrange(len(content))
            if number % 4 == 0:
                content[at] ^= 1 << chance.randrange(8)
            elif number % 4 == 1:
                content[at : at + 4096] = bytes(byte ^ 0xFF for byte in content[at : at + 4096])
            elif number % 4 == 2:
                del content[at:]
            newest.write_bytes(content)
            if number % 4 == 3:
                checkpoint_files.sidecar(newest).write_bytes(checkpoint_files.sidecar(older).read_bytes())
            stepped_over += checkpoint_files.latest(folder) == older
    return {"damaged": times, "stepped_over": stepped_over}
