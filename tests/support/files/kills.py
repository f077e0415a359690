"""Kill a process at its n-th change of a folder, so that the kill comes at the same point on every machine."""

import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support import programs

EQUAL_BYTES = "--codec", "mjpeg"  # with AVX-512, x264 may write other bytes of the same frames
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def call_killed_at(moment: int, folder: Path, function: Callable[..., int], *arguments: object) -> int:
    """Call a function in a process that is killed right before its n-th change of a folder, if it makes so many.

    Returns the exit code: the function's own, or -SIGKILL. Changes by processes that it starts are not counted.
    """
    process = programs.process(_call, moment, str(folder), function, arguments)
    process.start()
    process.join()
    return process.exitcode


def _call(moment: int, folder: str, function: Callable[..., int], arguments: tuple) -> None:
    made = itertools.count(1)

    def count(event: str, about: tuple) -> None:
        if event in CHANGES and _is_change(event, about, folder) and next(made) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    sys.exit(function(*arguments))


def _is_change(event: str, about: tuple, folder: str) -> bool:
    if not isinstance(about[0], str | bytes | os.PathLike):  # a file descriptor
        return False
    inside = any(os.fsdecode(name).startswith(folder) for name in about[: 2 if event == "os.rename" else 1])
    return inside and (event != "open" or bool(about[2] & WRITES))
