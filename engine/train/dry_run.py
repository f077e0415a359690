"""`train.py --dry-run`: do everything that a run does once, and print what the run will need."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from configs import Config
from configs.schema import Train
from dali_pipes.device import pick_device
from engine import activity, distributed, runtime
from engine.console import duration
from engine.evaluation.evaluate import logits_of_views
from engine.files import temporary_folder
from engine.runs import checkpoint, checkpoint_files
from engine.train import from_data, training
from engine.train.clock import Clock
from engine.train.step import Tally
from engine.train.training import Training

logger = logging.getLogger(__name__)
STEPS = 2  # the first one warms up, the second is timed


def dry_run(config: Config, weights: str | None) -> None:
    """Open the lists, take two steps, score one batch, write a checkpoint and read it back."""
    with trial(config, weights) as run:
        with activity.doing("taking two steps"):
            seconds = _two_steps(run)
        with activity.doing("scoring a batch"):
            _score_one_batch(run)
        with activity.doing("writing a checkpoint and reading it back"):
            size = distributed.on_rank_zero(lambda: _checkpoint_and_back(run)) or 0
        memory = max(distributed.gather(runtime.peak_memory(run.device)))
    train = run.config.train
    logger.info(f"{run.steps_per_epoch} steps an epoch, {run.total_steps} in all")
    logger.info(f"{memory / 2**30:.1f} GiB of memory on each rank, at most")
    logger.info(
        f"{seconds:.3f} s for a step: about {duration(run.total_steps * seconds)} of training, evaluations apart"
    )
    disk = size * (most_checkpoints(train) + 1)  # and one that is being written
    logger.info(f"{size / 2**20:,.0f} MiB for a checkpoint: about {disk / 2**20:,.0f} MiB of disk")
    logger.info("everything works; only the scans of the lists were kept")


def most_checkpoints(train: Train) -> int:
    """Return the largest number of checkpoints that a run keeps at a time; those within epochs come by the clock."""
    at_epoch_ends = math.ceil(train.epochs / train.checkpoint_every)
    return train.keep if train.checkpoint_minutes else min(train.keep, at_epoch_ends)


@contextmanager
def trial(config: Config, weights: str | None) -> Iterator[Training]:
    """Yield the training of a temporary run; the lists of its split exist during the block."""
    with (
        distributed.processes(pick_device(config.runtime.device), config.runtime.timeout),
        distributed.explained(),
        from_data.with_lists(config, weights) as chosen,
        closing(training.build(runtime.resolve(chosen), weights=weights)) as built,
    ):
        yield built


def _two_steps(run: Training) -> float:
    """Train on the first two batches; return the seconds of the second step, including its wait for data."""
    clock, tally = Clock(run.device, run.config.train.batch, warmup=STEPS - 1), Tally(run.device)
    batches = itertools.chain.from_iterable(
        map(run.train_loader.epoch, itertools.count())
    )  # an epoch may have one step
    for batch in clock.fetch(itertools.islice(batches, STEPS)):
        run.take_step(batch, tally)
    tally.read()
    return clock.read().seconds_per_step


@torch.inference_mode()
def _score_one_batch(run: Training) -> None:
    if run.val_loader:
        run.eval_model.eval()
        logits_of_views(run.eval_model, next(run.val_loader.epoch(0)), run.config)


def _checkpoint_and_back(run: Training) -> int:
    """Write a checkpoint to the run's disk and read it back; return its size in bytes."""
    runs = Path(run.config.train.runs)
    runs.mkdir(parents=True, exist_ok=True)
    with temporary_folder(runs) as folder:
        path = checkpoint_files.step_file(folder, run.step)
        checkpoint.save(path, run.state())
        run.restore(checkpoint.load(path))
        return path.stat().st_size
