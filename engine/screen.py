"""What a person sees while a run goes: lines, and on a terminal a bar under them. Decides nothing."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from engine.clock import Times


class Screen:
    """Lines on stdout; with `show` false (all ranks but one) nothing at all. Use as a context manager around a bar."""

    def __init__(self, show: bool = True):
        self._show = show
        self._bar: Progress | None = None

    def __enter__(self) -> Screen:
        if self._show and sys.stdout.isatty():
            columns = TextColumn("{task.description}"), BarColumn(None), TimeElapsedColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, console=Console(soft_wrap=True), transient=True)
            self._task = self._bar.add_task("")
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._bar:
            self._bar.console.print(line, markup=False, highlight=False)
        elif self._show:
            print(line, flush=True)

    def progress(self, done: int, total: int, label: str) -> None:
        """Move the bar, where there is one."""
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, description=label)


def train_line(
    *,
    epoch: str,
    step: str,
    loss: float,
    top1: float,
    lr: float,
    grad_norm: float,
    times: Times,
    memory: int,
    eta: float | None,
    bad: int,
) -> str:
    """One line of a log tick; `top1` is a fraction, `memory` in bytes, `eta` in seconds."""
    speed = (
        "warming up"
        if times.clips_per_second is None
        else (f"{times.clips_per_second:,.0f} clips/s (data {100 * times.data_fraction:.0f} %)")
    )
    return (
        f"ep {epoch} step {step} loss {loss:.3f} top1 {100 * top1:.1f} lr {lr:.4g} gn {grad_norm:.1f} | "
        f"{speed} mem {memory / 2**30:.1f} GiB | eta {duration(eta)} | bad {bad}"
    )


def duration(seconds: float | None) -> str:
    """`45s`, `3m20`, `2h11`, `4d05h`; `?` where it is not known yet."""
    if seconds is None:
        return "?"
    minutes, hours = divmod(round(seconds), 60), divmod(round(seconds / 60), 60)
    if round(seconds) < 60:
        return f"{round(seconds)}s"
    if hours[0] < 1:
        return f"{minutes[0]}m{minutes[1]:02}"
    if hours[0] < 48:
        return f"{hours[0]}h{hours[1]:02}"
    return f"{hours[0] // 24}d{hours[0] % 24:02}h"
