"""Log lines of a process: set up once, for a terminal or a pipe, and copied to the log.txt of a run."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

import rich
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler
from rich.progress import Progress

from configs import progress
from engine import exits, watch

PACKAGES = ("configs", "dali_pipes", "models", "engine", "tools", "benchmarks")
SILENCE = 5.0  # seconds
logger = logging.getLogger(__name__)
PLAIN = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")


def start_logging(stream: TextIO) -> None:
    """Send this project's log lines to `stream`, and let bars of progress appear there if it is a terminal.

    Of several ranks, rank 0 writes all its lines and the others only their errors.
    """
    terminal = stream.isatty()
    rich.reconfigure(file=stream, quiet=not _is_rank_zero(), force_interactive=None if terminal else False)
    handler = _Terminal(stream) if terminal else _Plain(stream)
    handler.addFilter(_shows)
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Unread)]:
        root.removeHandler(old)
    root.addHandler(handler)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)


@contextmanager
def copied_to(path: Path) -> Iterator[None]:
    """Append this process's log lines to a file as well, as long as the block runs, and the error that ends it."""
    handler = _Appending(path)
    logging.getLogger().addHandler(handler)
    try:
        yield
    except BaseException as error:  # reported to stderr at the end of the program, and here
        handler.handle(logging.makeLogRecord({"msg": str(error) or type(error).__name__, "levelname": "ERROR"}))
        raise
    finally:
        logging.getLogger().removeHandler(handler)


class Bar:
    """Progress of a training under the log lines of a terminal; elsewhere nothing. Use as a context manager."""

    def __init__(self):
        self._bars: Progress | None = None
        self._open = ExitStack()

    def __enter__(self) -> Bar:
        if rich.get_console().is_interactive and _is_rank_zero():
            self._bars = self._open.enter_context(progress.bars())
            self._task = self._bars.add_task("", left="")
        return self

    def __exit__(self, *error: object) -> None:
        self._bars = None
        with suppress(OSError):  # the terminal is gone
            self._open.close()

    def update(self, done: int, total: int, label: str, left: str) -> None:
        """Move the bar, if there is one."""
        if self._bars:
            self._bars.update(self._task, completed=done, total=total, description=label, left=left)


@contextmanager
def telling_of_silence() -> Iterator[None]:
    """Log what the main thread does, as long as the block runs, when it has made no progress for some seconds.

    On a terminal every 5 s, elsewhere after 5, 10, 20, 40 ... s. Later waits for the same are told of from where the
    longest one ended, so that steps of 6 s each are told of once.
    """
    watch.progress()
    stopped = threading.Event()
    thread = threading.Thread(target=_tell_of_silence, args=(stopped,), name="silence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()


def _tell_of_silence(stopped: threading.Event) -> None:
    longest: dict[str, float] = {}  # seconds of the last line about each activity
    while not stopped.wait(SILENCE / 5):
        seen = watch.activity()
        told = longest.get(seen["name"], 0.0)
        due = told + SILENCE if rich.get_console().is_terminal else max(2 * told, SILENCE)
        if seen["age"] >= due:
            longest[seen["name"]] = seen["age"]
            logger.info(f"{seen['name']}, for {seen['age']:.0f} s")


def _is_rank_zero() -> bool:
    """Read from the environment: lines are also logged before the ranks have joined."""
    return os.environ.get("RANK", "0") == "0"


def _shows(record: logging.LogRecord) -> bool:
    return _is_rank_zero() or record.levelno >= logging.ERROR


class _Unread(logging.Handler):
    """Loses lines, and not the run, if the reader of the stream has gone or the disk under it is full."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if isinstance(error, OSError):
            exits.silence_if_unread(self._stream)
        else:
            super().handleError(record)


class _Plain(_Unread, logging.StreamHandler):
    def __init__(self, stream: TextIO):
        super().__init__(stream)
        self._stream = stream
        self.setFormatter(PLAIN)


class _Terminal(_Unread, RichHandler):
    def __init__(self, stream: TextIO):
        super().__init__(
            console=rich.get_console(),
            show_path=False,
            highlighter=NullHighlighter(),
            omit_repeated_times=False,
            log_time_format="[%X]",
        )
        self._stream = stream


class _Appending(logging.Handler):
    """Opens the file for each line: a folder that was moved or a disk that was full loses only the lines meanwhile."""

    def __init__(self, path: Path):
        super().__init__()
        self._path = path
        self.setFormatter(PLAIN)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError), self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(self.format(record) + "\n")
