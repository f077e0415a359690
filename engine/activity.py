"""Name the current activity of this process and record its progress, for status.json and the watch over all ranks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from configs.progress import listeners

Item = TypeVar("Item")


@dataclass
class _Activity:
    name: str
    joint: bool  # it may last because of other ranks
    factor: float  # its time limit, as a multiple of runtime.timeout
    detail: Callable[[], str]
    stage: bool  # a stage of a run, not only a part of a step


_activities = [_Activity("starting", False, 2.0, str, True)]
_step = 0
_progress = time.monotonic()


@contextmanager
def doing(
    name: str, *, joint: bool = False, factor: float = 1.0, detail: Callable[[], str] = str, stage: bool = False
) -> Iterator[None]:
    """Name the activity of the main thread in the block. `detail` returns, for example, the file being read.

    `joint`: it may last because of another rank. `factor`: its time limit as a multiple of runtime.timeout. `stage`: it
    is a stage of the run that status.json shows.
    """
    _activities.append(_Activity(name, joint, factor, detail, stage))
    progress()
    try:
        yield
    finally:
        _activities.pop()
        progress()


def progress(step: int | None = None) -> None:
    """Record that this process has made progress, and its training step."""
    global _progress, _step
    _progress = time.monotonic()
    _step = _step if step is None else step


def age() -> float:
    """Return the seconds since the last progress."""
    return time.monotonic() - _progress


def leave_out(seconds: float) -> None:
    """Do not count the last `seconds` as a time without progress, because the whole process was stopped."""
    global _progress
    _progress = min(_progress + seconds, time.monotonic())


listeners.append(progress)


def waiting_for(items: Iterable[Item], name: str, detail: Callable[[], str] = str) -> Iterator[Item]:
    """Yield the items; the wait for each is an activity."""
    iterator, end = iter(items), object()
    while True:
        with doing(name, detail=detail):
            item = next(iterator, end)
        if item is end:
            return
        yield item


def current() -> dict:
    """Return the activity of this process, as shared with others."""
    newest = _activities[-1]
    detail = ""
    with suppress(Exception):  # called from threads of other modules at any moment
        detail = newest.detail()
    return {
        "name": newest.name + (f" ({detail})" if detail else ""),
        "stage": next(entry.name for entry in reversed(_activities[:]) if entry.stage),
        "joint": newest.joint,
        "factor": newest.factor,
        "step": _step,
        "age": age(),
    }
