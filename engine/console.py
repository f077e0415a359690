"""What a person sees while a run goes: lines, and on a terminal a bar under them. Decides nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from engine import exits


class Screen:
    """Lines on stdout; with `show` false (all ranks but one) nothing at all. Use as a context manager around a bar."""

    def __init__(self, show: bool = True):
        self._show = show
        self._log: Callable[[str], None] | None = None
        self._bar: Progress | None = None

    def __enter__(self) -> Screen:
        console = Console(soft_wrap=True)
        if self._show and sys.stdout.isatty() and not console.is_dumb_terminal:
            columns = TextColumn("{task.description}"), BarColumn(None), TimeElapsedColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task("")
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            with _looked_at_or_not():
                self._bar.stop()
            self._bar = None

    def copy_to(self, log: Callable[[str], None]) -> None:
        """Give every line from now on to `log` as well."""
        self._log = log

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._log:
            self._log(line)
        with _looked_at_or_not():
            if self._bar:
                self._bar.console.print(line, markup=False, highlight=False)
            elif self._show:
                print(line, flush=True)

    def progress(self, done: int, total: int, label: str) -> None:
        """Move the bar, where there is one."""
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, description=label)


@contextmanager
def _looked_at_or_not() -> Iterator[None]:
    """A reader that goes away, or a full disk under a log of stdout, costs the lines, not the run."""
    try:
        yield
    except OSError:
        exits.silence_if_unread(sys.stdout)


def printable(text: str) -> str:
    """`text` without what a terminal or a page would obey or choke on: names are whatever somebody wrote."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def cell(text: str) -> str:
    """`text` as a table's cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def train_line(
    *,
    epoch: str,
    step: str,
    loss: float,
    top1: float,
    lr: float,
    grad_norm: float,
    clips_per_s: float | None,
    data_fraction: float | None,
    memory: int,
    eta: float | None,
    bad: int,
) -> str:
    """One line of a log tick; `top1` and `data_fraction` are fractions, `memory` in bytes, `eta` in seconds."""
    speed = "warming up"
    if clips_per_s is not None:
        speed = f"{clips_per_s:,.0f} clips/s (data {100 * data_fraction:.0f} %)"
    return (
        f"ep {epoch} step {step} loss {loss:.3f} top1 {100 * top1:.1f} lr {lr:.4g} gn {grad_norm:.1f} | "
        f"{speed} mem {memory / 2**30:.1f} GiB | eta {duration(eta)} | bad {bad}"
    )


def duration(seconds: float | None) -> str:
    """`45s`, `3m20`, `2h11`, `4d05h`; `?` where it is not known yet."""
    if seconds is None:
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours_of_day = divmod(hours, 24)
    if days >= 2:
        return f"{days}d{hours_of_day:02}h"
    if hours:
        return f"{hours}h{minutes:02}"
    return f"{minutes}m{seconds:02}" if minutes else f"{seconds}s"
