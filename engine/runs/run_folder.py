"""The run folder `runs/<name>/`: what was asked for, what it ran on, what came out. Written by rank 0 alone.

config.yaml, env.json, command.txt   how the run came about
log.txt                              the lines that people saw
metrics.jsonl, tb/                   the same numbers for programs: one object a line, tagged `_type`; for TensorBoard
val_last.json, val_best.json         the newest evaluation's counts of every class, and those of best.pt
status.json                          running, preempted, finished or failed; replaced atomically
quarantine.jsonl                     each unreadable video once, with the reason
checkpoints/, best.pt                see `checkpoint`
report.html                          all of it as a page for people; see `report`
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import configs
from configs import Config, ConfigError
from dali_pipes.errors import Unreadable
from engine.files import end_last_line, read_lines, replace_file
from engine.runs.environment import environment, now

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)


def open_run(config: Config, *, resume: bool = False, fresh: bool = False) -> RunFolder:
    """The folder of the run that `config` names, with how it came about written down. Raises as `RunFolder` does."""
    run = RunFolder(Path(config.train.runs) / config.train.name, resume=resume, fresh=fresh)
    run.describe(configs.to_yaml(config), settings=configs.fingerprint(config))
    return run


class RunFolder:
    """One run's folder, held against a second trainer for as long as this process lives."""

    def __init__(self, folder: Path, *, resume: bool = False, fresh: bool = False):
        """Raises ConfigError where the folder is in use, or holds a run that is neither to be resumed nor removed."""
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.best = folder / "best.pt"
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / ".lock").open("a+")
            self._take_lock()
        if (folder / "status.json").exists() and fresh:
            self._remove_run()
        begun = self.best.exists() or any(self.checkpoints.glob("*.pt"))
        if begun and not resume:  # what failed before its first checkpoint is no run to lose
            raise ConfigError(
                f"train.name: {folder} already holds a run; go on with --resume, remove it with --fresh, "
                "or choose another train.name"
            )
        self.checkpoints.mkdir(exist_ok=True)
        self._board = TensorBoardLog(folder / "tb")
        for name in ("log.txt", "metrics.jsonl", "quarantine.jsonl"):
            end_last_line(folder / name)
        self._quarantined = {(entry["split"], entry["row"]) for entry in read_lines(folder / "quarantine.jsonl")}

    def _take_lock(self) -> None:
        """The kernel drops the lock with the process that held it, however that ends: it is never stale."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            holder = self._lock.read().strip()
            raise ConfigError(
                f"train.name: {self.folder} is in use by {holder}; wait for it, or choose another train.name"
            ) from None
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {platform.node()}")
        self._lock.flush()

    def _remove_run(self) -> None:
        """Empty the folder, but for the lock."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()

    def describe(self, config_yaml: str, **more: object) -> None:
        """Write how the run came about; a resumed run's files are those of its last start."""
        with _writable(self.folder):
            replace_file(self.folder / "config.yaml", config_yaml)
            replace_file(self.folder / "env.json", json.dumps({**environment(), **more}, indent=1) + "\n")
            with (self.folder / "command.txt").open("a") as file:
                file.write(f"{now()}  {shlex.join(sys.argv)}\n")

    def metrics(self, kind: str, step: int, **numbers: object) -> None:
        """Add a line for programs to metrics.jsonl. JSON has no infinity: a number that is not finite becomes null."""
        finite = {name: None if _unwritable(number) else number for name, number in numbers.items()}
        self._append("metrics.jsonl", json.dumps({"_type": kind, "time": now(), "step": step, **finite}))
        self._board.add(kind, step, finite)

    def result(self, which: str, content: dict) -> None:
        """Replace what an evaluation found; `which` is `last` or `best`."""
        with _as_warning():
            replace_file(self.folder / f"val_{which}.json", json.dumps(content) + "\n")

    def rewind(self, step: int) -> None:
        """Forget the metrics after `step`, from which the run goes on."""
        path = self.folder / "metrics.jsonl"
        kept = [json.dumps(entry) + "\n" for entry in read_lines(path) if entry["step"] <= step]
        replace_file(path, "".join(kept))
        self._board.rewind(step)

    def has_metrics(self, kind: str, step: int) -> bool:
        """Whether metrics of this kind were recorded at this step."""
        return any(e["_type"] == kind and e["step"] == step for e in read_lines(self.folder / "metrics.jsonl"))

    def quarantine(self, split: str, unreadable: list[Unreadable]) -> None:
        """Add the videos that are not there yet to quarantine.jsonl."""
        for row, path, reason in unreadable:
            if (split, row) not in self._quarantined:
                self._quarantined.add((split, row))
                entry = {"split": split, "row": row, "path": path, "reason": reason}
                self._append("quarantine.jsonl", json.dumps(entry))

    def status(self, state: str, step: int, **more: object) -> None:
        """Replace status.json. `state` is running, preempted, finished or failed: torchrun's exit codes hide it."""
        status = {"state": state, "step": step, **more, "time": now()}
        with _as_warning():
            replace_file(self.folder / "status.json", json.dumps(status) + "\n")
        if state != "running":
            self._board.close()

    def _append(self, name: str, line: str) -> None:
        with _as_warning(), (self.folder / name).open("a") as file:
            file.write(line + "\n")


def _unwritable(number: object) -> bool:
    return isinstance(number, float) and not math.isfinite(number)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Before a run has begun, a disk that refuses is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"train.runs: {folder} cannot be written ({error.strerror}); name another folder") from error


@contextmanager
def _as_warning() -> Iterator[None]:
    """A full disk costs lines of a log, not the training."""
    try:
        yield
    except OSError as error:
        logger.warning(error)


class TensorBoardLog:
    """Scalars in a folder; metrics.jsonl has them, too.

    A disk that fails, or a machine without TensorBoard, costs the rest of them, not the run.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def rewind(self, step: int) -> None:
        """Begin, or begin again: whatever an earlier process wrote of later steps counts no more."""
        self._try(self._open, step)

    def add(self, kind: str, step: int, numbers: dict[str, object]) -> None:
        """Note the numbers among these under `kind/name`; before the first `rewind` nothing is noted."""
        if self._writer:
            self._try(self._write, kind, step, numbers)

    def close(self) -> None:
        """Write out what is noted; nothing is noted after that."""
        if self._writer:
            self._try(self._writer.close)
            self._writer = None

    def _open(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def _write(self, kind: str, step: int, numbers: dict[str, object]) -> None:
        for name, number in numbers.items():
            if isinstance(number, int | float):
                self._writer.add_scalar(f"{kind}/{name}", number, step)
        self._writer.flush()  # a run may be killed

    def _try(self, act, *arguments) -> None:
        try:
            act(*arguments)
        except (OSError, ImportError) as error:
            self._writer = None
            logger.warning(f"nothing more for TensorBoard: {error}")
