"""End a program with the right exit code after Ctrl-C, a closed pipe as with `| head`, or denied access to files.

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

INTERRUPTED, UNREAD = 128 + signal.SIGINT, 128 + signal.SIGPIPE  # exit codes as in shells
MENDABLE = 2
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk full, quota, or file size limit (`ulimit -f`)
HANDLED = {signal.SIGINT: signal.default_int_handler, signal.SIGPIPE: signal.SIG_IGN}  # Python's default handlers


def exit_quietly_until_started() -> None:
    """Let SIGINT and SIGPIPE end the process silently until `run_to_exit_code` is called, because imports take
    seconds. Replace standard streams that are closed, and restart in UTF-8 mode if the locale has another encoding.
    """
    _replace_closed_streams()
    _use_utf8()
    for number, handler in HANDLED.items():
        if signal.getsignal(number) is handler:  # if Ctrl-C is ignored at the start, keep ignoring it
            signal.signal(number, signal.SIG_DFL)


def _replace_closed_streams() -> None:
    """Open /dev/null as each standard stream that was closed at the start, as some schedulers and `2>&-` do.

    Otherwise, a file that is opened later gets its descriptor, and the messages of libraries are written to that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
        setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115 - open to the end


def _use_utf8() -> None:
    """Restart this process in Python's UTF-8 mode if the locale has another encoding for file names.

    Lists name files in UTF-8, and folders name classes, which are compared with those of other machines. Python chooses
    the encoding of names when it starts. It chooses UTF-8 in the C locale, too, unless told otherwise.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":  # `-X utf8=0` overrides it
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run_to_exit_code(name: str, work: Callable[[], int]) -> int:
    """Run `work` and return its exit code: 130 with a line after Ctrl-C, 141 silently if the output's reader is gone.

    Return 2 with a line if a file cannot be created or read, or a disk is full. Other errors are bugs.
    """
    begun_at_once = [number for number in HANDLED if signal.getsignal(number) is signal.SIG_DFL]
    for number in begun_at_once:
        signal.signal(number, HANDLED[number])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
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
    """End the process without the interpreter's shutdown, after all work is done and all files are closed.

    Runs have been seen to hang in threads of libraries during the shutdown, and a scheduler would wait for them.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the reader is gone
            stream.flush()
    os._exit(code)


def silence_if_unread(stream: TextIO) -> bool:
    """Return True if the reader of a stream is gone; then discard later output without errors."""
    poll = select.poll()
    poll.register(stream, 0)  # polls for no event: errors are always reported
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return True
