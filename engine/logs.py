"""Set up logging of a process for a terminal or a pipe, and copy log lines to the log.txt of a run."""

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
from engine import activity, exits

PACKAGES = ("configs", "dali_pipes", "models", "engine", "tools", "benchmarks")
SILENCE = 5.0  # seconds
logger = logging.getLogger(__name__)
PLAIN = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")


def start_logging(stream: TextIO) -> None:
    """Send this project's log lines to `stream`, and show progress bars there if it is a terminal.

    Rank 0 writes all its lines; other ranks only write errors.
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
    """Append this process's log lines of the block to a file, too, and the error that ends it."""
    handler = _Appending(path)
    logging.getLogger().addHandler(handler)
    try:
        yield
    except BaseException as error:  # also reported to stderr at the end of the program
        handler.handle(logging.makeLogRecord({"msg": str(error) or type(error).__name__, "levelname": "ERROR"}))
        raise
    finally:
        logging.getLogger().removeHandler(handler)


class Bar:
    """A progress bar of training below the log lines of a terminal, otherwise nothing. Use as a context manager."""

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
        with suppress(OSError):  # the terminal was closed
            self._open.close()

    def update(self, done: int, total: int, label: str, left: str) -> None:
        """Move the bar, if there is one."""
        if self._bars:
            self._bars.update(self._task, completed=done, total=total, description=label, left=left)


@contextmanager
def telling_of_silence() -> Iterator[None]:
    """Log the activity of the main thread when it makes no progress for some seconds, during the block.

    On a terminal every 5 s, otherwise after 5, 10, 20, 40 ... s. Later waits of the same activity are only logged
    beyond the longest one so far, so that steps of 6 s each are logged once.
    """
    activity.progress()
    stopped = threading.Event()
    thread = threading.Thread(target=_tell_of_silence, args=(stopped,), name="silence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()


def _tell_of_silence(stopped: threading.Event) -> None:
    longest: dict[str, float] = {}  # longest logged wait of each activity, in seconds
    while not stopped.wait(SILENCE / 5):
        seen = activity.current()
        told = longest.get(seen["name"], 0.0)
        due = told + SILENCE if rich.get_console().is_terminal else max(2 * told, SILENCE)
        if seen["age"] >= due:
            longest[seen["name"]] = seen["age"]
            logger.info(f"{seen['name']}, for {seen['age']:.0f} s")


def _is_rank_zero() -> bool:
    """Return True for rank 0, from the environment: lines are also logged before the ranks have joined."""
    return os.environ.get("RANK", "0") == "0"


def _shows(record: logging.LogRecord) -> bool:
    return _is_rank_zero() or record.levelno >= logging.ERROR


class _Unread(logging.Handler):
    """Drops lines instead of raising if the reader of the stream is gone or the disk is full."""

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
    """Opens the file for each line, so that a moved folder or a full disk only loses the lines meanwhile."""

    def __init__(self, path: Path):
        super().__init__()
        self._path = path
        self.setFormatter(PLAIN)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError), self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(self.format(record) + "\n")
