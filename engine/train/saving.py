"""Write the checkpoints of a training, and its best weights, from rank 0."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import configs
from configs import ConfigError
from engine import activity, distributed
from engine.evaluation.accuracy import Result
from engine.runs import checkpoint, checkpoint_files
from engine.runs.run_folder import RunFolder
from engine.runs.saver import Saver
from engine.train.resume import measured_with
from engine.train.training import Training
from models import CheckpointError

logger = logging.getLogger(__name__)


class Checkpoints:
    """Writes the checkpoints of a training. `run` is its folder on rank 0, None on other ranks; all ranks call its
    methods.
    """

    def __init__(self, training: Training, run: RunFolder | None):
        self.training, self.run = training, run
        self.saved = training.step  # step of the last checkpoint
        self._saver = Saver(run.checkpoints, training.config.train.keep) if run else None
        self._saved_at = time.monotonic()

    @property
    def last_good(self) -> Path | None:
        """Return the newest checkpoint, None on ranks other than 0."""
        return self.run and checkpoint_files.step_file(self.run.checkpoints, self.saved)

    def save_in_background(self) -> None:
        """Start writing a checkpoint, on rank 0, if train.checkpoint_minutes have passed and no other one is due."""
        training, minutes = self.training, self.training.config.train.checkpoint_minutes
        if not self._saver or not minutes or training.at_epoch_end or self._saver.busy:
            return
        self.saved = max(self.saved, self._saver.finish() or 0)
        if time.monotonic() - self._saved_at >= 60 * minutes:
            self._saved_at = time.monotonic()
            with activity.doing("copying a checkpoint"):
                self._saver.start(training.step, training.state())

    def save(self, final: bool) -> None:
        """Write a checkpoint of this step, unless it exists."""
        self._saved_at = time.monotonic()
        if self.saved != self.training.step and self._try_on_rank_zero(self._write_checkpoint, final):
            self.saved = self.training.step

    def finish(self) -> None:
        """Wait for the checkpoint that is being written."""
        if self._saver:
            self._saver.finish()

    def keep_result(self, result: Result) -> None:
        """Write the result of an evaluation, and the weights if they are the best so far."""
        final = self.training.step == self.training.total_steps
        self._try_on_rank_zero(lambda: self._keep_best(result), final)
        if self.run:
            self.run.result("last", self._described(result))

    def _keep_best(self, result: Result) -> None:
        """Save the weights as best.pt, and then their result, if no earlier evaluation was as good.

        If a kill came in between, the repeated evaluation writes the missing result.
        """
        best, kind = self.run.best, self.training.config.train.best
        damaged = checkpoint_files.damage(best)
        kept = {} if damaged else checkpoint_files.note(best)
        if getattr(result, kind) > kept.get(kind, -1):
            if best.exists() and damaged:
                checkpoint_files.set_aside(best)
            checkpoint.save(best, self.training.weights(), step=self.training.step, **result.numbers())
        elif (kept.get("step"), kept.get(kind)) != (self.training.step, getattr(result, kind)):
            return
        self.run.result("best", self._described(result))

    def _described(self, result: Result) -> dict:
        """Return the content of val_last.json or val_best.json."""
        training = self.training
        about = {"step": training.step, "class_names": training.train_loader.class_names}
        about["settings"] = measured_with(configs.flat(training.config))
        return {**about, **result.to_json(), "examples": [example._asdict() for example in result.examples]}

    def _write_checkpoint(self) -> None:
        self._saver.finish()
        path = checkpoint_files.step_file(self.run.checkpoints, self.training.step)
        checkpoint.save(path, self.training.state(), step=self.training.step)
        checkpoint.save(self.run.last, self.training.weights(), step=self.training.step)
        checkpoint_files.tidy(path.parent, self.training.config.train.keep)

    def _try_on_rank_zero(self, write: Callable[[], None], final: bool) -> bool:
        """Call `write` on rank 0. If it fails, warn and return False, or re-raise if it is the `final` one."""
        try:
            with activity.doing("writing a checkpoint"):
                distributed.on_rank_zero(write if self.run else lambda: None)
        except (CheckpointError, ConfigError, OSError, distributed.PeerFailed) as error:
            if final:
                raise
            logger.warning(f"{error}; training continues and tries again")
            return False
        return True
