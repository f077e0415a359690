"""The run folder `runs/<name>/`: settings, environment and results of a run. Only rank 0 writes it.

config.yaml, env.json, command.txt   how the run came about
log.txt                              the lines that people saw
metrics.jsonl, tb/                   the same numbers for programs: one object a line, tagged `_type`; for TensorBoard
val_last.json, val_best.json         the newest evaluation's counts of every class, and those of best.pt
status.json                          running, preempted, finished or failed; see `status`
quarantine.jsonl                     each unreadable video once, with the reason
checkpoints/, best.pt, last.pt       see `checkpoint`; last.pt has the newest weights, without optimizer state
report.html                          all of it as a page for people; see `report`
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

import configs
from configs import Config, ConfigError
from dali_pipes.errors import Unreadable
from engine.files import read_lines
from engine.locks import LOCK, InUse, take_lock
from engine.output_record import is_result
from engine.outputs import Outputs, refuse_inside
from engine.runs import checkpoint_files
from engine.runs.condition import COMMANDS, command_line
from engine.runs.disk_faults import DiskFaults
from engine.runs.environment import environment, now
from engine.runs.status import RunStatus
from engine.runs.trackers import Trackers

logger = logging.getLogger(__name__)

WHOLE = ("config.yaml", "env.json", "val_last.json", "val_best.json", "inputs.json", "status.json", "report.html")
GROWING = (COMMANDS, "log.txt", "metrics.jsonl", "quarantine.jsonl")


def open_run(
    config: Config,
    *,
    resume: bool = False,
    fresh: bool = False,
    sources: Iterable[str | None] = (),
    used: Config | None = None,
) -> RunFolder:
    """Open the run's folder, given by `config`, and write settings and command into it.

    Those of a run that continues stay until the new ones are accepted and the caller calls `describe`. `sources` are
    files that the command reads in addition to those of `config`; `used` is the configuration resolved on this machine.
    Raises as `RunFolder` does.
    """
    data = config.data
    sources = [*sources, data.train, data.val, data.test, data.class_names, config.model.pretrained]
    folder = config.train.folder
    if not resume:
        refuse_inside(folder, sources, strictly=True)
    run = RunFolder(
        folder,
        resume=resume,
        fresh=fresh,
        outputs=Outputs(sources),
        trackers=config.train.trackers,
        settings=configs.flat(config),
    )
    run.begin_log()
    if not checkpoint_files.steps(run.checkpoints):
        describe(run, config, used or config)
    return run


def describe(run: RunFolder, config: Config, used: Config) -> None:
    """Write the settings of a run, `used` as they are resolved on this machine."""
    run.describe(configs.to_yaml(config), settings=configs.fingerprint(config), used=asdict(used.runtime))


class RunFolder:
    """The folder of a run, locked against a second training until `close` or the end of this process."""

    def __init__(
        self,
        folder: Path,
        *,
        resume: bool = False,
        fresh: bool = False,
        outputs: Outputs | None = None,
        trackers: Iterable[str] = ("tensorboard",),
        settings: Mapping[str, object] | None = None,
    ):
        """Open the folder; `fresh` removes the files that an earlier run wrote into it, and nothing else.

        `trackers` get the metrics, and at their start `settings`.

        Raises ConfigError if the folder is in use, if it contains a run and neither `resume` nor `fresh` is set, or if
        a file with the name of a run's file was not written by a run or has changed since.
        """
        self.folder = folder
        self.outputs = outputs or Outputs()
        self.checkpoints = folder / "checkpoints"
        self.best = folder / "best.pt"
        self.last = folder / "last.pt"
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
        for part in (self.checkpoints, folder / "tb"):
            if part.is_symlink():
                raise ConfigError(f"train.name: {part} is a link, maybe to the files of another run; remove it")
        if fresh:
            self._refuse_in_the_way()
            self._remove_run()
        begun = self.best.exists() or bool(checkpoint_files.steps(self.checkpoints))
        if begun and not resume:  # a run that failed before its first checkpoint may be overwritten
            raise ConfigError(
                f"train.name: {folder} already contains a run; continue it with --resume, remove it with --fresh, "
                "or choose another train.name"
                if not fresh
                else f"train.name: {folder} contains checkpoints that its run did not write, or that have changed; "
                "move them, or choose another train.name"
            )
        self._refuse_in_the_way()
        self.checkpoints.mkdir(exist_ok=True)
        self.described = False  # its settings are still those of an earlier start, if there was one
        self._faults = DiskFaults()
        self.status = RunStatus(folder / "status.json", self.checkpoints, self.outputs, self._faults)
        self.trackers = Trackers(trackers, folder, settings or {})
        entries = read_lines(folder / "quarantine.jsonl")
        self._quarantined = {_video(entry["split"], entry["row"], entry["path"]) for entry in entries}

    def _take_lock(self) -> IO[str]:
        try:
            return take_lock(self.folder / LOCK)
        except InUse as holder:
            raise ConfigError(
                f"train.name: {self.folder} is in use by {holder}; wait for it, or choose another train.name"
            ) from None

    def _remove_run(self) -> None:
        """Remove the files that a run of this name wrote and that have not changed since."""
        settings = self.folder / "config.yaml"
        if is_result(settings) and (name := configs.load(settings).train.name) != self.folder.name:
            raise ConfigError(
                f"train.name: {self.folder} contains the run {name}; --fresh removes only a run of its name"
            )
        steps = checkpoint_files.steps(self.checkpoints)
        sidecars = map(checkpoint_files.sidecar, steps)
        self.outputs.remove(*self._own_files(), *steps, *sidecars, *(self.folder / "tb").glob("events.*"))
        for folder in (self.checkpoints, self.folder / "tb"):
            with suppress(OSError):  # not empty, or missing
                folder.rmdir()

    def _own_files(self) -> list[Path]:
        weights = [file for path in (self.best, self.last) for file in (path, checkpoint_files.sidecar(path))]
        return [*(self.folder / name for name in (*WHOLE, *GROWING)), *weights]

    def _refuse_in_the_way(self) -> None:
        for path in self._own_files():
            if os.path.lexists(path) and not is_result(path):
                raise ConfigError(
                    f"train.name: {path} is in the way: no run wrote it, it has changed since, or it is of a version "
                    f"that kept no record; move {self.folder} away, or choose another train.name"
                )

    def begin_log(self) -> None:
        """Append the command to log.txt."""
        with _writable(self.folder):
            self.outputs.append_line(self.folder / "log.txt", _command())

    def describe(self, config_yaml: str, **more: object) -> None:
        """Write settings, environment and command; those of the last start replace earlier ones."""
        with _writable(self.folder):
            texts = {"config.yaml": config_yaml, "env.json": json.dumps({**environment(), **more}, indent=1) + "\n"}
            self.outputs.write({self.folder / name: text for name, text in texts.items()})
            self.outputs.append_line(self.folder / COMMANDS, _command())
        self.described = True

    def metrics(self, kind: str, step: int, **numbers: object) -> None:
        """Add a line to metrics.jsonl. JSON has no infinity: numbers that are not finite become null."""
        finite = {name: None if _unwritable(number) else number for name, number in numbers.items()}
        self._append("metrics.jsonl", json.dumps({"_type": kind, "time": now(), "step": step, **finite}))
        self.trackers.numbers(kind, step, finite)

    def send_pictures(self) -> None:
        """Send pictures of the best evaluation to the trackers; errors are only warnings."""
        try:
            self.trackers.evaluation(json.loads((self.folder / "val_best.json").read_text()))
        except FileNotFoundError:  # no evaluation yet
            return
        except Exception as error:
            logger.warning(f"no pictures for trackers: {type(error).__name__}: {error}")

    def result(self, which: str, content: dict) -> None:
        """Replace the result of an evaluation; `which` is `last` or `best`."""
        self._replace(f"val_{which}.json", content)

    def best_step(self) -> int | None:
        """Return the step of best.pt, or None if there is none."""
        return checkpoint_files.note(self.best).get("step")

    def rewind(self, step: int) -> None:
        """Remove the metrics after `step`, from which the run continues."""
        path = self.folder / "metrics.jsonl"
        kept = [json.dumps(entry) + "\n" for entry in read_lines(path) if entry["step"] <= step]
        if kept:
            self.outputs.rewrite(path, "".join(kept))
        elif is_result(path):
            path.unlink()
        self.trackers.open(step)

    def inputs(self, clips: list[dict], decoders: dict[str, int]) -> None:
        """Store the first inputs of the network, `samples.Sample` as dictionaries, unless an earlier start did.

        `decoders`: the number of training videos of each decoder.
        """
        if not (self.folder / "inputs.json").exists():
            self._replace("inputs.json", {"clips": clips, "decoders": decoders})

    def evaluations(self) -> list[dict]:
        """Return the lines of metrics.jsonl about evaluations, in order."""
        return [line for line in read_lines(self.folder / "metrics.jsonl") if line["_type"] == "val"]

    def has_metrics(self, kind: str, step: int) -> bool:
        """Return True if metrics of this kind were recorded at this step."""
        return any(e["_type"] == kind and e["step"] == step for e in read_lines(self.folder / "metrics.jsonl"))

    def quarantine(self, split: str, unreadable: list[Unreadable]) -> None:
        """Add videos to quarantine.jsonl, if they are not in it yet."""
        for row, path, reason in unreadable:
            video = _video(split, row, path)
            if video not in self._quarantined:
                self._quarantined.add(video)
                entry = {"split": split, "row": row, "path": path, "reason": reason}
                self._append("quarantine.jsonl", json.dumps(entry))

    def close(self) -> None:
        """Close the trackers, stop the heartbeat of status.json, and unlock the folder."""
        self.status.stop_heartbeat()
        self.trackers.close()
        self._lock.close()

    def _append(self, name: str, line: str) -> None:
        with self._faults.tolerated(self.folder / name):
            self.outputs.append_line(self.folder / name, line)

    def _replace(self, name: str, content: dict) -> None:
        with self._faults.tolerated(self.folder / name):
            self.outputs.write({self.folder / name: json.dumps(content) + "\n"})


def _video(split: str, row: int, path: str) -> tuple[str, int, str]:
    """Return what identifies a video over restarts: its folder may move, and another list has others in its rows."""
    return split, row, os.path.basename(path)


def _command() -> str:
    return f"{now()}  {command_line(sys.argv)}"


def _unwritable(number: object) -> bool:
    return isinstance(number, float) and not math.isfinite(number)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turn an OSError into a ConfigError: before a run starts, a disk error is for the user to fix."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"train.runs: {folder} cannot be written ({error.strerror}); name another folder") from error
