"""The loop: steps, and between them the places where the host reads numbers: log tick, checkpoint, evaluation.

Knows when things happen. How a step, a checkpoint or an evaluation is done is known where it is done.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch

from dali_pipes import DataError
from engine import console, distributed, runtime
from engine.evaluation.accuracy import Result
from engine.evaluation.evaluate import describe_bad, evaluate, unreadable_of_all_ranks
from engine.logs import Bar
from engine.runs import checkpoint
from engine.runs.run_folder import RunFolder
from engine.train.clock import Clock
from engine.train.interrupt import Interrupt
from engine.train.step import Tally
from engine.train.training import Training
from models import CheckpointError

logger = logging.getLogger(__name__)
FIRST_BAD = 5  # unreadable videos that an error names
LOWEST_SCALE = 2**-10  # of the loss; where fp16 overflows even there, nothing is learned any more


def fit(training: Training, run: RunFolder | None) -> bool:
    """Train to the last epoch; returns False where it was interrupted. `run` is rank 0's, None elsewhere.

    Raises FloatingPointError when the loss is no longer finite, DataError when too many videos cannot be read, and
    CheckpointError when the last checkpoint cannot be written; on ranks other than 0, PeerFailed in their place.
    """
    loop = _Loop(training, run)
    try:
        finished = loop.go()
    except Exception as error:
        loop.status("failed", reason=str(error))
        raise
    loop.status("finished" if finished else "preempted")
    return finished


class _Loop:
    """What the loop remembers between steps."""

    def __init__(self, training: Training, run: RunFolder | None):
        self.training, self.run, self.bar = training, run, Bar()
        self.clock = Clock(training.device, training.config.train.batch)
        self.tally = Tally(training.device)
        self.ticked = self.saved = training.step  # steps of the last tick and of the last checkpoint
        self.bad, self.bad_reports = 0, -1  # unreadable videos, and how often all ranks have reported one
        self.grad_norm = torch.zeros(())  # of the newest step, on the device

    def go(self) -> bool:
        """Epoch after epoch; whether the end was reached."""
        training = self.training
        with Interrupt() as interrupt, self.bar:
            self.status("running")
            if self.run:
                self.run.rewind(training.step)
            if training.at_epoch_end:  # a run that ended before the evaluation that was due
                self.close_epoch()
            while training.step < training.total_steps:
                if not self.train_epoch(interrupt):
                    logger.info(f"stopping after step {training.step} ({interrupt.reason}); go on with --resume")
                    self.save(final=True)
                    return False
                self.close_epoch()
        return True

    def train_epoch(self, interrupt: Interrupt) -> bool:
        """Steps up to the end of the epoch; False where they were interrupted."""
        training = self.training
        epoch, start = divmod(training.step, training.steps_per_epoch)
        for batch in self.clock.fetch(training.train_loader.epoch(epoch, start)):
            self.grad_norm = training.take_step(batch, self.tally)
            if training.step % training.steps_per_epoch % training.config.train.log_every == 0:  # at its end, too
                self.tick()
            if interrupt.agreed(training.step):
                self.tick()
                return False
        return True

    def close_epoch(self) -> None:
        """The checkpoint and the evaluation that are due; the checkpoint first, lest an evaluation cost an epoch."""
        training, train = self.training, self.training.config.train
        epoch, last = training.step // training.steps_per_epoch, training.step == training.total_steps
        with self.clock.pause():
            if (last or epoch % train.checkpoint_every == 0) and self.saved != training.step:
                self.save(final=last)
            if training.val_loader and (last or (train.eval_every and epoch % train.eval_every == 0)):
                self.evaluate()

    def tick(self) -> None:
        """Read the numbers since the last tick, from all ranks; stop on what makes going on useless; log the rest."""
        training, first = self.training, self.ticked
        self.ticked = training.step
        if first == training.step:
            return
        loss_sum, hits, clips = distributed.all_sum(self.tally.read()).tolist()
        loss = loss_sum / max(clips, 1)
        self.refuse_divergence(loss, first)
        self.count_bad()
        times = self.clock.read()
        waits = distributed.gather(times.data_fraction)
        if self.run:
            self.log(loss, hits / max(clips, 1), times.clips_per_second, max(waits) if times.steps else None)

    def log(self, loss: float, top1: float, clips_per_s: float | None, data_fraction: float | None) -> None:
        """A line for people and one for programs. `data_fraction` is that of the rank that waited most.

        One rank's waiting for data is, on the others, a step that takes longer.
        """
        training, total = self.training, self.training.total_steps
        epoch, step = divmod(training.step - 1, training.steps_per_epoch)
        numbers = {
            "loss": loss,
            "top1": top1,
            "lr": training.lr_at(training.step - 1),
            "grad_norm": float(self.grad_norm),
            "clips_per_s": clips_per_s,
            "data_fraction": data_fraction,
            "memory": runtime.peak_memory(training.device),
            "bad": self.bad,
        }
        of_epochs = f"{epoch + 1}/{training.config.train.epochs}"
        seconds_per_step = self.clock.total.seconds_per_step
        eta = seconds_per_step and seconds_per_step * (total - training.step)
        line = console.train_line(epoch=of_epochs, step=f"{step + 1}/{training.steps_per_epoch}", eta=eta, **numbers)
        logger.info(line)
        self.bar.update(training.step, total, f"ep {of_epochs}")
        self.run.metrics("train", step=training.step, epoch=training.step / training.steps_per_epoch, **numbers)

    def refuse_divergence(self, loss: float, first: int) -> None:
        """Stop once the loss, or every gradient, has left the numbers. Nothing is saved after this."""
        training, scaler = self.training, self.training.scaler
        if not math.isfinite(loss):
            seen = f"loss became {loss} between steps {first} and {training.step}"
        elif scaler.is_enabled() and scaler.get_scale() < LOWEST_SCALE:
            seen = f"fp16 gradients overflow at every step up to {training.step}; runtime.precision=bf16 has more range"
        else:
            return
        good = self.run and checkpoint.step_file(self.run.checkpoints, self.saved)
        known = f"last good checkpoint: {good}" if good and good.exists() else "there is no checkpoint yet"
        distributed.raise_everywhere(FloatingPointError(f"{seen}; {known}; a lower optim.lr may help"))

    def count_bad(self) -> None:
        """Bring quarantine.jsonl up to date; stop when more videos are unreadable than the recipe allows."""
        loader = self.training.train_loader
        reports = int(distributed.all_sum(torch.tensor(len(loader.unreadable))))
        if reports == self.bad_reports:
            return
        self.bad_reports = reports
        unreadable = unreadable_of_all_ranks(loader)
        self.bad = len(unreadable)
        if self.run:
            self.run.quarantine("train", unreadable)
        allowed = self.training.config.data.max_bad_fraction
        if self.bad > allowed * loader.num_rows:
            distributed.raise_everywhere(
                DataError(
                    "data.train",
                    f"{self.bad} of {loader.num_rows} training videos cannot be read, more than "
                    f"data.max_bad_fraction={allowed:g}; the first: {describe_bad(unreadable[:FIRST_BAD])}",
                )
            )

    def save(self, final: bool) -> None:
        """Write a checkpoint of this step."""
        if self.saved != self.training.step and self.written(self.write_step, final):
            self.saved = self.training.step

    def write_step(self) -> None:
        """Rank 0's part of `save`."""
        if self.run:
            path = checkpoint.step_file(self.run.checkpoints, self.training.step)
            checkpoint.save(path, self.training.state(), step=self.training.step)
            checkpoint.tidy(path.parent, self.training.config.train.keep)

    def written(self, write: Callable[[], None], final: bool) -> bool:
        """Whether rank 0 could `write`. Where it could not, training goes on with a warning, unless it was `final`."""
        try:
            distributed.together(write)
        except (CheckpointError, distributed.PeerFailed) as error:
            if final:
                raise
            logger.warning(error)
            return False
        return True

    def evaluate(self) -> None:
        """Evaluate this step's weights, once, and keep them where they are the best so far."""
        training = self.training
        if distributed.from_rank_zero(self.run and self.run.has_metrics("val", training.step)):
            return
        result = evaluate(training.scored, training.val_loader, training.config)
        self.written(lambda: self.keep_best(result), final=training.step == training.total_steps)
        if self.run:
            epoch = training.step // training.steps_per_epoch
            logger.info(f"ep {epoch}/{training.config.train.epochs} val {result.summary()}")
            self.run.quarantine("val", result.unreadable)
            self.run.result("last", self.described(result))
            self.run.metrics("val", step=training.step, epoch=epoch, **result.numbers())

    def keep_best(self, result: Result) -> None:
        """Rank 0's part of `evaluate`."""
        if not self.run:
            return
        best = self.run.best
        so_far = -1 if checkpoint.damage(best) else checkpoint.note(best)["top1"]
        if result.top1 > so_far:
            self.run.result("best", self.described(result))  # first: a kill in between, and both are made again
            checkpoint.save(best, self.training.weights(), step=self.training.step, **result.numbers())

    def described(self, result: Result) -> dict:
        """A result as the run's folder keeps it."""
        about = {"step": self.training.step, "class_names": self.training.train_loader.class_names}
        return {**about, **result.to_json()}

    def status(self, state: str, **more: object) -> None:
        """Replace status.json."""
        if self.run:
            path = checkpoint.step_file(self.run.checkpoints, self.saved)
            known = str(path) if path.exists() else None
            self.run.status(state, self.training.step, checkpoint=known, **more)
