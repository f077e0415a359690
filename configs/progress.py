"""Progress of a long job: a bar on a terminal; otherwise (log files, batch jobs) a log line every few seconds."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

SECONDS_BETWEEN_LINES = 5.0

Item = TypeVar("Item")
logger = logging.getLogger(__name__)
listeners: list[Callable[[], None]] = []
"""Called by `report`, and so for each item that `with_progress` passes on."""
_shown: Progress | None = None  # the current display; rich shows one at a time


class _Remaining(TimeRemainingColumn):
    """A progress column with the remaining time: the task's field `left` if it is set, otherwise an estimate from its
    speed.
    """

    def render(self, task: Task) -> Text:
        return Text(task.fields["left"]) if "left" in task.fields else super().render(task)


@contextmanager
def bars() -> Iterator[Progress]:
    """Yield a progress display on this terminal; nested blocks add their bars to it."""
    global _shown
    if _shown:
        yield _shown
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Remaining()
    # rich must not redirect output that goes to a file to the terminal
    with Progress(*columns, transient=True, redirect_stdout=sys.stdout.isatty()) as _shown:
        try:
            yield _shown
        finally:
            _shown = None


def with_progress(items: Iterable[Item], total: int, title: str, done: int = 0) -> Iterator[Item]:
    """Yield the items and show progress; `done` of `total` were finished before."""
    for item in (_with_bar if rich.get_console().is_interactive else _with_lines)(items, total, title, done):
        report()
        yield item


def report() -> None:
    """Tell the listeners that a long job makes progress, or waits for a good reason."""
    for listener in listeners:
        listener()


def format_rate(number: float) -> str:
    """Format a rate with three significant digits, or with all digits before the decimal point."""
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"


def _with_bar(items: Iterable[Item], total: int, title: str, done: int) -> Iterator[Item]:
    with bars() as shown:
        task = shown.add_task(title, total=total or None, completed=done)
        try:
            for item in items:
                yield item
                shown.advance(task)
        finally:
            shown.refresh()  # the last item, too
            shown.remove_task(task)


def _with_lines(items: Iterable[Item], total: int, title: str, done: int) -> Iterator[Item]:
    start = spoken = time.monotonic()
    for count, item in enumerate(items, start=1):
        now = time.monotonic()
        if now - spoken >= SECONDS_BETWEEN_LINES:
            spoken, rate = now, count / (now - start)
            left = f", {max(total - done - count, 0) / rate:.0f} s left" if total else ""
            known = f" of {total}" if total else ""
            logger.info("%s: %d%s, %s a second%s", title, done + count, known, format_rate(rate), left)
        yield item
