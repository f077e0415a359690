"""Progress of long jobs: a bar on a terminal, elsewhere (log files, batch jobs) a plain line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 5.0

Item = TypeVar("Item")


def say(console: Console, line: str) -> None:
    """Print a line as it is: names may hold what looks like markup, and a reader may search for the whole line."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def watched(items: Iterable[Item], total: int, title: str, console: Console) -> Iterator[Item]:
    """Yield the items and show how many of `total` have come."""
    return (_with_bar if console.is_interactive else _with_lines)(items, total, title, console)


def _with_bar(items: Iterable[Item], total: int, title: str, console: Console) -> Iterator[Item]:
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        yield from bar.track(items, total, description=title)


def _with_lines(items: Iterable[Item], total: int, title: str, console: Console) -> Iterator[Item]:
    start = spoken = time.monotonic()
    for count, item in enumerate(items, start=1):
        now = time.monotonic()
        if now - spoken >= SECONDS_BETWEEN_LINES:
            spoken, rate = now, count / (now - start)
            say(console, f"{title}: {count} of {total}, {rate:.0f} a second, {(total - count) / rate:.0f} s to go")
        yield item
