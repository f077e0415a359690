"""Log lines of a process: set up once, for a terminal or a pipe, and copied to the log.txt of a run."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import rich
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from engine import exits

PACKAGES = ("configs", "dali_pipes", "models", "engine", "tools", "benchmarks")
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
        self._bar: Progress | None = None

    def __enter__(self) -> Bar:
        if rich.get_console().is_interactive and _is_rank_zero():
            columns = TextColumn("{task.description}"), BarColumn(None), TimeElapsedColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, transient=True)
            self._task = self._bar.add_task("")
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            with suppress(OSError):  # the terminal is gone
                self._bar.stop()
            self._bar = None

    def update(self, done: int, total: int, label: str) -> None:
        """Move the bar, if there is one."""
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, description=label)


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
        super().__init__(console=rich.get_console(), show_path=False, highlighter=NullHighlighter())
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
