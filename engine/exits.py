"""End a program early with the right exit code: after Ctrl-C, a closed pipe as with `| head`, or files without access.

Imports almost nothing, because programs import it before anything else.
"""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TextIO

INTERRUPTED, UNREAD = 128 + signal.SIGINT, 128 + signal.SIGPIPE  # exit codes, as shells have them
MENDABLE = 2
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of the disk, of a user, or of a file (`ulimit -f`)
HANDLED = {signal.SIGINT: signal.default_int_handler, signal.SIGPIPE: signal.SIG_IGN}  # Python's own ways


def exit_quietly_until_started() -> None:
    """Let SIGINT and SIGPIPE end the process silently until `run_to_exit_code` is called: imports take seconds."""
    for number, handler in HANDLED.items():
        if signal.getsignal(number) is handler:  # whoever starts a program with Ctrl-C ignored means it
            signal.signal(number, signal.SIG_DFL)


def run_to_exit_code(name: str, work: Callable[[], int]) -> int:
    """Run `work` and return its exit code: 130 with a line after Ctrl-C, 141 silently if nobody reads the output.

    2 and a line where a file cannot be made or read, or a disk is full. Other errors are mistakes of ours.
    """
    begun_at_once = [number for number in HANDLED if signal.getsignal(number) is signal.SIG_DFL]
    for number in begun_at_once:
        signal.signal(number, HANDLED[number])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        code = work()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        if not any([silence_if_unread(stream) for stream in (sys.stdout, sys.stderr)]):
            raise
        return UNREAD
    except OSError as error:
        if error.filename is None and error.errno not in DISK_FULL:
            raise
        place = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        advice = "; make room and start again" if error.errno in DISK_FULL else ""
        print(f"{name}: {place}{error.strerror}{advice}", file=sys.stderr)
        return MENDABLE
    finally:
        for number in begun_at_once:
            signal.signal(number, signal.SIG_DFL)


def exit_now(code: int) -> NoReturn:
    """End the process, all work being done and all files closed, without taking the interpreter apart.

    Runs have been seen to stop for ever while that is done, in threads of libraries, and a scheduler waits with them.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads any more
            stream.flush()
    os._exit(code)


def silence_if_unread(stream: TextIO) -> bool:
    """Return True if the reader of a stream has gone; later output to it is then discarded without errors."""
    poll = select.poll()
    poll.register(stream, 0)  # asks for nothing: errors are always told
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return True
