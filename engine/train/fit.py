"""The training loop: steps, and between them log lines, checkpoints and evaluations."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict

import torch

import configs
from dali_pipes import Batch, DataError
from dali_pipes.cut import reading
from dali_pipes.storage.faults import StorageFault
from engine import activity, console, distributed, runtime
from engine.evaluation.evaluate import describe_bad, evaluate, unreadable_of_all_ranks
from engine.runs import checkpoint
from engine.runs.pages import samples
from engine.runs.run_folder import RunFolder
from engine.train import nonfinite
from engine.train.clock import Clock
from engine.train.display import Display
from engine.train.interrupt import TRAINING, Interrupt
from engine.train.nonfinite import ELSEWHERE, Found
from engine.train.resume import evaluations_without_best
from engine.train.saving import Checkpoints
from engine.train.step import Tally
from engine.train.training import COMPILING, Training

logger = logging.getLogger(__name__)
SHORT_OF_DATA = 0.05  # fraction of time spent waiting for data above which a log line names the slow stage
FIRST_BAD = 5  # most unreadable videos in an error


class Trainer:
    """Trains to the last epoch. `run` is the run's folder on rank 0, None on other ranks."""

    def __init__(self, training: Training, run: RunFolder | None):
        self.training, self.run = training, run
        self.clock = Clock(training.device, training.config.train.batch)
        self.display = Display(training, self.clock)
        self.tally = Tally(training.device)
        self.started = training.step
        self.ticked = training.step  # at the last log line
        self.checkpoints = Checkpoints(training, run)
        self.reason: str | None = None  # reason for ending before the last epoch, other than a signal
        self.bad, self.bad_reports = 0, -1  # unreadable videos, and the number of reports by all ranks
        self.grad_norm = torch.zeros(())  # gradient norm of the newest step, on the device

    def fit(self, interrupt: Interrupt) -> bool:
        """Train to the last epoch; return False if a signal stopped the run.

        Raises FloatingPointError as `nonfinite.check` does, DataError if too many videos are unreadable, and
        CheckpointError if the last checkpoint cannot be written; ranks other than 0 raise PeerFailed instead.
        """
        activity.progress(self.training.step)
        with activity.doing(TRAINING, stage=True), self.display:
            self.write_status("running")
            try:
                finished = self._train_epochs(interrupt)
            finally:
                self.checkpoints.finish()
            self.write_status("finished" if finished else "preempted", reason=interrupt.reason or self.reason)
            interrupt.close()
        return finished

    def _train_epochs(self, interrupt: Interrupt) -> bool:
        training = self.training
        if self.run:
            self.run.rewind(training.step)
        if training.at_epoch_end:  # the run ended before the due evaluation
            self.end_epoch()
        while training.step < training.total_steps and not self.has_plateaued():
            if not self.train_epoch(interrupt):
                self.checkpoints.save(final=True)
                if isinstance(interrupt.reason, StorageFault):
                    raise interrupt.reason
                logger.info(f"stopping after step {training.step} ({interrupt.reason}); continue with --resume")
                return False
            self.end_epoch()
        return True

    def train_epoch(self, interrupt: Interrupt) -> bool:
        """Train to the end of the epoch; return False if a signal or a storage failure stopped it.

        Raises StorageFault if a disk fails for one of several ranks, because the others are already in the step.
        """
        training = self.training
        epoch, start = divmod(training.step, training.steps_per_epoch)
        batches = activity.waiting_for(
            training.train_loader.epoch(epoch, start), "waiting for data", reading.in_progress
        )
        for batch in self.clock.fetch(_up_to_fault(batches)):
            failed = isinstance(batch, StorageFault)
            if failed:
                interrupt.storage_failed(batch)
            agreeing = training.config.data.in_store or (failed and distributed.world_size() == 1)
            if agreeing and self._stops(interrupt, at_once=True):
                return False
            if failed:
                raise batch
            self.take_step(batch)
            if training.step % training.steps_per_epoch % training.config.train.log_every == 0:  # also at its end
                self.log_tick()
                self.checkpoints.save_in_background()
            if self._stops(interrupt, at_once=training.at_epoch_end):
                return False
        return True

    def _stops(self, interrupt: Interrupt, at_once: bool) -> bool:
        """Return True on all ranks, after a last log line, if one of them shall stop."""
        if not interrupt.agreed(self.training.step, at_once):
            return False
        self.log_tick()
        return True

    def take_step(self, batch: Batch) -> None:
        """Train on a batch."""
        first = self.training.step == self.started  # convolution search, compilation of kernels
        with activity.doing("in a training step", joint=True, factor=COMPILING if first else 1.0):
            self.grad_norm = self.training.take_step(batch, self.tally)
        activity.progress(self.training.step)
        self.display.step()
        if first and self.run:
            loader = self.training.train_loader
            clips = samples.of_batch(batch, loader, self.training.config.clip)
            self.run.inputs([asdict(clip) for clip in clips], loader.decoders)

    def end_epoch(self) -> None:
        """Save and evaluate, if due; save first, so that a failing evaluation does not lose the epoch.

        After resuming at an epoch's end, precise batch-norm statistics are computed again, with the same result.
        """
        training, train = self.training, self.training.config.train
        epoch, last = training.step // training.steps_per_epoch, training.step == training.total_steps
        validated = ""
        with self.clock.pause():
            if train.precise_bn and (last or epoch % train.precise_bn_every == 0):
                training.make_norms_precise()
                self._refuse_broken()
            if last or epoch % train.checkpoint_every == 0:
                self.checkpoints.save(final=last)
            if training.val_loader and (last or (train.eval_every and epoch % train.eval_every == 0)):
                validated = self.evaluate()
        line = self.display.end_epoch(validated)
        if self.run and line:
            logger.info(line)

    def log_tick(self) -> None:
        """Read the sums since the last tick from all ranks, stop if they are not finite, and log them."""
        training, first = self.training, self.ticked
        self.ticked = training.step
        if first == training.step:
            return
        sums = self.tally.read()
        broken = checkpoint.first_nonfinite(training.learned())
        sums = torch.cat([sums, sums.new_tensor([broken is not None])])
        loss_sum, hits, clips, left_out, broken_ranks = distributed.all_sum(sums).tolist()
        found = Found(first, int(left_out), broken or (ELSEWHERE if broken_ranks else None))
        nonfinite.check(training, found, self.tally.left_out() if left_out else [], self.checkpoints.last_good)
        self.display.tick(loss_sum, hits, clips)
        self.count_unreadable()
        times = self.clock.read()
        mine = times.data_fraction, training.train_loader.slow_part, runtime.peak_memory(training.device)
        waits, causes, memories = zip(*distributed.gather(mine), strict=True)
        wait, cause = max(zip(waits, causes, strict=True)) if times.steps else (None, "")
        if self.run and clips:  # 0 if no video of these steps was readable
            of_worst_rank = {"data_fraction": wait, "memory": max(memories)}
            self._log(loss_sum / clips, hits / clips, times.clips_per_second, of_worst_rank, cause)

    def _log(self, loss: float, top1: float, clips_per_s: float | None, of_worst_rank: dict, cause: str) -> None:
        """Write a log line and a line of metrics.jsonl.

        `of_worst_rank` has `data_fraction`, of the rank that waited most, because if one rank waits for data, the steps
        of the others take longer; and the `memory` of the rank that used most. `cause` is what the former waited for.
        """
        training = self.training
        epoch, step = divmod(training.step - 1, training.steps_per_epoch)
        numbers = {
            "loss": loss,
            "top1": top1,
            "lr": training.step_settings.lr_at(training.step - 1),
            "grad_norm": float(self.grad_norm),
            "clips_per_s": clips_per_s,
            **of_worst_rank,
            "bad": self.bad,
        }
        of_epochs = f"{epoch + 1}/{training.config.train.epochs}"
        of_steps = f"{step + 1}/{training.steps_per_epoch}"
        line = console.train_line(epoch=of_epochs, step=of_steps, eta=self.display.seconds_left(), **numbers)
        self.display.newest = f" loss {loss:.3f} {console.speed(clips_per_s)}"
        if (of_worst_rank["data_fraction"] or 0) > SHORT_OF_DATA:
            line += f" | waiting for {cause or 'data'}"
        logger.info(line)
        about = {"epoch": training.step / training.steps_per_epoch, "left_out": training.skipped}
        self.run.metrics("train", step=training.step, **about, **numbers)

    def _refuse_broken(self) -> None:
        """Raise FloatingPointError if weights, statistics or momenta are not finite on any rank."""
        broken = checkpoint.first_nonfinite(self.training.learned())
        if distributed.any_rank(broken is not None):
            found = Found(self.ticked - 1, 0, broken or ELSEWHERE)
            nonfinite.check(self.training, found, [], self.checkpoints.last_good)

    def count_unreadable(self) -> None:
        """Update quarantine.jsonl; raise DataError if more videos are unreadable than the recipe allows."""
        loader = self.training.train_loader
        reports = int(distributed.all_sum(torch.tensor(len(loader.unreadable))))
        if reports == self.bad_reports:
            return
        self.bad_reports = reports
        unreadable = unreadable_of_all_ranks(loader)
        self.bad = len(unreadable)
        if self.run:
            self.run.quarantine("train", unreadable)
        data = self.training.config.data
        if not data.allows_bad(self.bad, loader.num_rows):
            first = describe_bad(unreadable[:FIRST_BAD])
            distributed.raise_everywhere(
                DataError(
                    "data.train",
                    f"{self.bad} of {loader.num_rows} training videos cannot be read, more than "
                    f"data.max_bad_fraction={data.max_bad_fraction:g} allows; the first: {first}",
                )
            )

    def evaluate(self) -> str:
        """Evaluate this step's weights, unless done before, and save them if they are the best so far.

        Return the result as the end of a log line.
        """
        training = self.training
        if distributed.from_rank_zero(self.run and self.run.has_metrics("val", training.step)):
            return ""
        with activity.doing("evaluating", stage=True):
            self.write_status("running")
            result = evaluate(training.eval_model, training.val_loader, training.config)
        self.write_status("running")
        self.checkpoints.keep_result(result)
        if self.run:
            epoch = training.step // training.steps_per_epoch
            self.run.quarantine("val", result.unreadable)
            self.run.metrics("val", step=training.step, epoch=epoch, **result.numbers())
        best = self.run and self.run.best_step() == training.step
        return f" | val {result.summary()}{' * best' if best else ''}"

    def has_plateaued(self) -> bool:
        """Return True on all ranks if the last train.patience evaluations had no new best; then save the last step.

        This depends only on metrics.jsonl, so a resumed run decides the same.
        """
        settings = configs.flat(self.training.config)
        if not settings["train.patience"]:
            return False
        since = distributed.from_rank_zero(self.run and evaluations_without_best(self.run.evaluations(), settings))
        if not since:
            return False
        self.reason = f"no better {settings['train.best']} in {since} evaluations (train.patience)"
        logger.info(f"stopping after step {self.training.step}: {self.reason}")
        self.checkpoints.save(final=True)
        return True

    def write_status(self, state: str, **more: object) -> None:
        """Rewrite status.json."""
        if self.run:
            phase = activity.current()["stage"]
            self.run.status.update(state=state, phase=phase, activity=None, step=self.training.step, **more)


def _up_to_fault(batches: Iterator[Batch]) -> Iterator[Batch | StorageFault]:
    """Yield batches; if storage fails, yield the StorageFault and end."""
    try:
        yield from batches
    except StorageFault as fault:
        yield fault
