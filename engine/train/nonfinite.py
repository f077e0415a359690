"""Handle losses, gradients and tensors that are not finite: find them at a log line, describe them, skip or stop.

A step with a non-finite gradient changes no weight (`optim.step_if`). At a log line, all ranks learn the number of
skipped steps; only then is more computed, to name the videos and the module.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from configs import Config
from engine import distributed, runtime
from engine.train.step import LeftOut
from engine.train.training import Training

logger = logging.getLogger(__name__)
LOWEST_SCALE = 2**-10  # loss scale; if fp16 overflows even at this scale, training makes no progress
MOST_NAMED = 5  # most videos in a message
ELSEWHERE = "a tensor of another rank"
IN_CLIPS = "clips are not finite"


class Found(NamedTuple):
    """Non-finite steps and tensors of all ranks between two log lines."""

    first: int  # number of steps at the previous log line
    left_out: int  # number of skipped steps on each rank
    broken: str | None  # the first tensor of this rank that is not finite


def check(training: Training, found: Found, own: list[LeftOut], last_good: Path | None) -> None:
    """Count the skipped steps, and warn of them. All ranks call this with the same counts.

    Raises FloatingPointError if the run has to end: with train.on_nonfinite=stop at the first one, with `skip` after
    train.max_nonfinite; in any case if weights, statistics or momenta are not finite, or if fp16 overflows at every
    scale. `own` are the steps of this rank, `last_good` is rank 0's newest checkpoint.
    """
    train, scaler = training.config.train, training.scaler
    if found.left_out:
        steps = _of_all_ranks(own)
        training.skipped += len(steps)
        seen = _describe_steps(training, found.first, steps)
        if train.on_nonfinite == "stop":
            _end(seen, _locate(training, max(steps)), last_good, training.config)
        if training.skipped > train.max_nonfinite:
            seen += f"; {training.skipped} steps were skipped, more than train.max_nonfinite={train.max_nonfinite}"
            _end(seen, _locate(training, max(steps)), last_good, training.config)
        logger.warning(f"{seen}; skipped, {training.skipped} of at most {train.max_nonfinite}")
    if found.broken:
        seen = f"weights, statistics or momenta are not finite after steps {found.first + 1} to {training.step}"
        _end(seen, f"the first tensor that is not finite: {found.broken}", last_good, training.config)
    if scaler.is_enabled() and scaler.get_scale() < LOWEST_SCALE:
        _end(f"fp16 gradients overflow at every step up to {training.step}", "", last_good, training.config)


def _of_all_ranks(own: list[LeftOut]) -> dict[int, list[int]]:
    """Gather the rows of the clips by step, from ranks with a non-finite loss."""
    rows: dict[int, list[int]] = {}
    for left_out in itertools.chain(*distributed.gather(own)):
        rows.setdefault(left_out.step, []).extend(left_out.rows)
    return dict(sorted(rows.items()))


def _describe_steps(training: Training, first: int, steps: dict[int, list[int]]) -> str:
    number, rows = next(iter(steps.items()))
    what = "the loss" if rows else "the gradient"
    count = f"in {len(steps)} of steps {first + 1} to {training.step}, " if len(steps) > 1 else ""
    videos = f", of {_paths(training, rows)}" if rows else ""
    return f"{what} is not finite, {count}first in step {number + 1}{videos}"


def _paths(training: Training, rows: list[int]) -> str:
    named = ", ".join(training.train_loader.path(row) for row in rows[:MOST_NAMED])
    return named + (f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else "")


def _end(seen: str, where: str, last_good: Path | None, config: Config) -> None:
    good = f"last good checkpoint: {last_good}" if last_good and last_good.exists() else "there is no checkpoint yet"
    parts = [seen, where, good, _advice(where, config)]
    distributed.raise_everywhere(FloatingPointError("; ".join(filter(None, parts))))


def _advice(where: str, config: Config) -> str:
    """Return the advice that is most likely to help."""
    if where.startswith(IN_CLIPS):
        return "look at these videos and at clip.mean and clip.std"
    precise = [] if config.runtime.precision == "fp32" else ["runtime.precision=fp32"]
    wider = ["runtime.precision=bf16"] if config.runtime.precision == "fp16" else precise
    calmer = [] if config.optim.clip_norm else ["optim.clip_norm=20"]
    slower = ["a lower optim.lr", "a longer optim.warmup_epochs"]
    skip = ["train.on_nonfinite=skip if it is rare"] if config.train.on_nonfinite == "stop" else []
    return f"what may help: {', '.join([*slower, *calmer, *wider, *skip])}"


def _locate(training: Training, step: int) -> str:
    """Repeat the forward pass of a step on all ranks, and name the clips or the first module with non-finite values."""
    found = [here for here in distributed.gather(_locate_here(training, step)) if here]
    return found[0] if found else "with the present weights its forward pass is finite"


@torch.no_grad()
def _locate_here(training: Training, step: int) -> str:
    epoch, place = divmod(step, training.steps_per_epoch)
    with closing(training.train_loader.epoch(epoch, place)) as batches:
        batch = next(batches)
        broken_B = ~batch.clips_BVTCHW.isfinite().flatten(1).all(1)
        if rows := batch.index_B[broken_B & (batch.index_B >= 0)].tolist():
            return f"{IN_CLIPS}: {_paths(training, rows)}"
        runtime.seed_step(training.config.train.seed, step, distributed.rank())
        mixed, _ = training.step_settings.mix(batch)
        with _first_nonfinite_output(training.model) as modules, torch.compiler.set_stance("force_eager"):
            for clips_BTCHW in mixed.clips_BTCHW.chunk(training.step_settings.parts):
                with training.step_settings.autocast():
                    training.model(clips_BTCHW)
    return f"the first module whose output is not finite: {modules[0]}" if modules else ""


@contextmanager
def _first_nonfinite_output(model: nn.Module) -> Iterator[list[str]]:
    """Collect the names of modules with non-finite outputs in the block, in the order of computation."""
    names: list[str] = []

    def watch(name: str, module: nn.Module):
        def look(_module, _inputs, output: object) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                names.append(f"{name or 'the network'} ({type(module).__name__})")

        return module.register_forward_hook(look)

    handles = [watch(name, module) for name, module in model.named_modules()]
    try:
        yield names
    finally:
        for handle in handles:
            handle.remove()
