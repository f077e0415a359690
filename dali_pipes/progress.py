"""Progress of a long job: a bar on a terminal, elsewhere (log files, batch jobs) a log line every few seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 5.0

Item = TypeVar("Item")
logger = logging.getLogger(__name__)
listeners: list[Callable[[], None]] = []
"""Called by `report`, and so for each item that `watched` passes on."""


def watched(items: Iterable[Item], total: int, title: str) -> Iterator[Item]:
    """Pass items on and show how many of `total` have come."""
    for item in (_with_bar if rich.get_console().is_interactive else _with_lines)(items, total, title):
        report()
        yield item


def digits(number: float) -> str:
    """Format a speed with three significant digits, or all those before the point."""
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.3g}"


def report() -> None:
    """Tell the listeners that a long job gets further, or waits for a good reason."""
    for listener in listeners:
        listener()


def _with_bar(items: Iterable[Item], total: int, title: str) -> Iterator[Item]:
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, transient=True) as bar:
        yield from bar.track(items, total, description=title)


def _with_lines(items: Iterable[Item], total: int, title: str) -> Iterator[Item]:
    start = spoken = time.monotonic()
    for count, item in enumerate(items, start=1):
        now = time.monotonic()
        if now - spoken >= SECONDS_BETWEEN_LINES:
            spoken, rate = now, count / (now - start)
            left = (total - count) / rate
            logger.info("%s: %d of %d, %s a second, %.0f s left", title, count, total, digits(rate), left)
        yield item
