"""Show the progress of training: a bar, the remaining time, and one line per epoch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from engine import console
from engine.logs import Bar
from engine.train.clock import Clock
from engine.train.training import Training


@dataclass
class EpochTotals:
    """Sums over the clips of an epoch since this process started, over all ranks."""

    loss: float = 0.0
    hits: float = 0.0
    clips: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def describe(self) -> str:
        """Return means and time as a part of a log line; empty without clips."""
        if not self.clips:
            return ""
        means = f"loss {self.loss / self.clips:.3f} top1 {100 * self.hits / self.clips:.1f}"
        return f" trained {means} in {console.duration(time.monotonic() - self.began)}"


class Display:
    """The progress bar of a training, and its data. Use as a context manager."""

    def __init__(self, training: Training, clock: Clock):
        self.training, self.clock, self.bar = training, clock, Bar()
        self.epoch = EpochTotals()
        self.epochs_ended = 0  # steps of this process
        self.newest = ""  # loss and speed at the last log line

    def __enter__(self) -> Display:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.__exit__(*error)

    def step(self) -> None:
        """Move the bar to the current step, without reading from the device."""
        training = self.training
        epoch = (training.step - 1) // training.steps_per_epoch + 1
        label = f"ep {epoch}/{training.config.train.epochs}{self.newest}"
        self.bar.update(training.step, training.total_steps, label, f"{console.duration(self.seconds_left())} left")

    def tick(self, loss_sum: float, hits: float, clips: float) -> None:
        """Add the sums since the last log line to the epoch's."""
        epoch = self.epoch
        epoch.loss, epoch.hits, epoch.clips = epoch.loss + loss_sum, epoch.hits + hits, epoch.clips + clips

    def end_epoch(self, validated: str) -> str:
        """Return the line of the finished epoch, ending with the result of the evaluation `validated`; may be empty."""
        training, means = self.training, self.epoch.describe()
        self.epoch = EpochTotals()
        self.epochs_ended += 1
        epoch = training.step // training.steps_per_epoch
        return f"ep {epoch}/{training.config.train.epochs}{means}{validated}" if means or validated else ""

    def seconds_left(self) -> float | None:
        """Estimate the remaining time of the run from its steps, evaluations and checkpoints so far."""
        training, per_step = self.training, self.clock.total.seconds_per_step
        if per_step is None:
            return None
        steps = training.total_steps - training.step
        per_epoch = self.clock.paused / self.epochs_ended if self.epochs_ended else 0.0
        return steps * per_step + math.ceil(steps / training.steps_per_epoch) * per_epoch
