"""Faults at a chosen moment of a run: on one rank, from one step on, in one phase, of one kind.

They replace functions of their process permanently: call `fail_at` in a forked rank.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import wraps

import torch

from dali_pipes.cut import reading
from dali_pipes.scan import build
from dali_pipes.storage import faults as storage
from engine import activity
from engine.evaluation import evaluate
from engine.runs import checkpoint
from engine.train import training
from engine.train.saving import Checkpoints

PLACES = {  # phase -> the functions before which the fault happens
    "start-up": [(training, "build")],
    "scan": [(build, "load_catalog"), (build, "open_catalog")],
    "training": [(training.Training, "take_step")],
    "evaluation": [(evaluate, "logits_of_views")],
    "save": [(checkpoint, "save"), (Checkpoints, "save")],  # ranks other than 0 have no file to write
}
MARK = "a fault of the test, at"
PHASES = ("start-up", "scan", "read", "training", "evaluation", "save")


def fail_at(rank: int, step: int, phase: str, how: str) -> None:
    """Let this process fail once, if it has this rank: at the first moment of `phase` after `step` steps.

    `how`: raise, kill (SIGKILL), stop (SIGSTOP), nan (in the weights), eio (an OSError), stall (for ever, in C), or
    nothing. A line in stderr, MARK and the time, reports it.
    `phase`: one of PHASES, or `any` for a moment 0 to 0.2 s after that step, which only kill and stop can interrupt.
    """
    if rank != int(os.environ.get("RANK", 0)):
        return
    fail, left = WAYS[how], [True]

    def maybe_fail(*arguments: object) -> None:
        if left and activity.current()["step"] >= step:
            left.clear()
            os.write(2, f"{MARK} {time.time():.3f}\n".encode())
            fail(*arguments)

    if phase == "any":
        threading.Thread(target=_fail_soon, args=(step, fail), daemon=True).start()
    elif phase == "read":
        reading.os = Reader(maybe_fail)
    else:
        for owner, name in PLACES[phase]:
            setattr(owner, name, _preceded(getattr(owner, name), maybe_fail))


class Reader:
    """The module `os` as `dali_pipes.cut.reading` uses it, calling `before()` before each read from a file."""

    def __init__(self, before: Callable[[], None]):
        self._before = before

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def preadv(self, *arguments: object) -> int:
        """Find nothing in the page cache."""
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def pread(self, *arguments: object) -> bytes:
        self._before()
        return os.pread(*arguments)


class FastClock:
    """The module `time` of `dali_pipes.storage.faults`, in which seconds pass `speed` times faster."""

    def __init__(self, speed: float):
        self._speed = speed

    def monotonic(self) -> float:
        return time.monotonic() * self._speed

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / self._speed)


def fail_reads_for(seconds: float, step: int, speed: float) -> None:
    """Let all reads of this process fail with EIO for a time after a step; seconds pass `speed` times faster."""
    clock = storage.time = FastClock(speed)
    end = []

    def fail() -> None:
        if not end and activity.current()["step"] >= step:
            end.append(clock.monotonic() + seconds)
        if end and clock.monotonic() < end[0]:
            _refuse()

    reading.os = Reader(fail)


def _preceded(function: Callable, before: Callable[..., None]) -> Callable:
    @wraps(function)
    def call(*arguments: object, **named: object) -> object:
        before(*arguments)
        return function(*arguments, **named)

    return call


def _fail_soon(step: int, fail: Callable[[], None]) -> None:
    while activity.current()["step"] < step:
        time.sleep(0.001)
    time.sleep(int.from_bytes(os.urandom(1)) / 256 / 5)
    fail()


def _raise(*arguments: object) -> None:
    raise RuntimeError("a fault that a test has made")


def _refuse(*arguments: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _spoil(running: training.Training, *arguments: object) -> None:
    with torch.no_grad():
        next(running.model.parameters()).fill_(torch.nan)


def _stall(*arguments: object) -> None:
    while True:
        ctypes.CDLL(None).sleep(600)  # a call that no signal handler of Python interrupts


def _send(number: signal.Signals) -> Callable[..., None]:
    return lambda *arguments: os.kill(os.getpid(), number)


def _do_nothing(*arguments: object) -> None:
    pass


WAYS: dict[str, Callable[..., None]] = {
    "raise": _raise,
    "kill": _send(signal.SIGKILL),
    "stop": _send(signal.SIGSTOP),
    "nan": _spoil,
    "eio": _refuse,
    "stall": _stall,
    "nothing": _do_nothing,
}
