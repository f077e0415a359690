"""Call a function on many inputs in worker processes; if an input crashes or hangs its process, only this input fails.

The standard library's pools do not tell which input killed a process, cannot end a single hung process, and import the
main module (here: torch and DALI) in each process. These workers import only the function's module.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NamedTuple

from dali_pipes.errors import DataError, Inaccessible
from dali_pipes.storage.faults import StorageFault

ANSWERS = (DataError, OSError, MemoryError)  # exceptions that an input may cause; any other is a bug in this project
OWN_MISTAKE = 1  # Python's exit status after an uncaught exception
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 26)}
"""Environment of the processes: glibc keeps up to 64 MiB of freed memory for the next input. To get it back from the
system, page by page, costs more than to read the headers of a short video (mallopt(3); these are the largest values to
which glibc adapts by itself)."""
PATIENCE = 60.0  # time limit without progress: this many seconds, plus one per MB of the file
REPEATED = (signal.SIGALRM, signal.SIGKILL, signal.SIGTERM)
"""Signals that need not be caused by the input. A process reaches its time limit also if it is paused, by a scheduler
or in a container; and the kernel, if memory is short, or a user may end it."""
_NOTED = 300  # most characters of the arguments in a traceback


class Call(NamedTuple):
    """One input: the caller's key, the function's arguments, and the time limit (see `restart_time_limit`)."""

    key: Any
    arguments: tuple
    seconds: float
    is_second: bool = False  # whether its first process was ended by a signal in REPEATED


@dataclass(frozen=True)
class Failure:
    """The failure of a call: the exception's text, or how the process ended."""

    reason: str
    path: str = ""  # the path of the DataError
    may_pass: bool = False  # the input is not the cause, so another attempt may succeed

    def reason_for(self, path: str) -> str:
        """Return the reason; with its path if that differs from `path`."""
        return self.reason if self.path in ("", path) else f"{self.path}: {self.reason}"


def seconds_for(size: int) -> float:
    """Return the time limit of a call that reads a file of `size` bytes."""
    return PATIENCE + size / 1e6


def call_all(function: Callable, calls: Iterable[Call], count: int) -> Iterator[tuple[Any, Any]]:
    """Yield (key, result or Failure) of every call, as they finish, with at most `count` processes.

    A call whose process is ended by a signal in REPEATED is made once more.
    `function` must be importable by its name. Raises RuntimeError if a process does not start, or if the function
    raises an exception not in ANSWERS. A StorageFault is raised, too, since it is not caused by an input.
    """
    waiting = iter(calls)
    workers: dict[Connection, _Worker] = {}

    def assign(worker: _Worker, call: Call) -> None:
        workers[worker.connection] = worker
        worker.ask(call)

    try:
        for call in islice(waiting, count):
            assign(_Worker(function), call)
        while workers:
            for connection in wait(list(workers)):
                worker = workers[connection]
                key, answer = worker.call.key, worker.answer()
                if isinstance(answer, StorageFault):
                    raise answer
                del workers[connection]
                second = worker.second_call()
                call = second or next(waiting, None)
                if call is None:
                    worker.end()
                else:
                    assign(_Worker(function) if worker.ended else worker, call)
                if not second:
                    yield key, answer
    finally:
        for worker in workers.values():
            worker.end()


class _Worker:
    """The parent's end of one process."""

    def __init__(self, function: Callable):
        self.connection, theirs = Pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
            pass_fds=[theirs.fileno()],
            env={**ENVIRONMENT, **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # only the parent handles Ctrl-C
        )
        theirs.close()
        self.connection.send(function)

    def ask(self, call: Call) -> None:
        self.call = call
        with suppress(BrokenPipeError):  # it has died: `answer` reports it
            self.connection.send((call.arguments, call.seconds))

    def answer(self) -> Any:
        """Return the result, or a Failure if the process ended. Call it when the connection is readable."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            status = self.process.wait()
        if status == OWN_MISTAKE:
            raise RuntimeError("a scanning process did not start, or failed with a bug; its message is above")
        if status == -signal.SIGALRM:
            return Failure(f"no progress for {self.call.seconds:.0f} s")
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return Failure(f"crashed the scanner ({name})")

    def second_call(self) -> Call | None:
        """Return the last call if it is to be made once more, otherwise None."""
        by_signal = self.ended and -self.process.returncode in REPEATED
        return self.call._replace(is_second=True) if by_signal and not self.call.is_second else None

    @property
    def ended(self) -> bool:
        return self.process.returncode is not None

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


_limit = 0.0  # time limit of the current call; 0 outside a worker process


def restart_time_limit() -> None:
    """Restart the time limit of the current call, after a step of finite length such as a decoded packet.

    So a long video may take long. Outside worker processes, this does nothing.
    """
    if _limit:
        signal.setitimer(signal.ITIMER_REAL, _limit)


def serve(descriptor: int) -> None:
    """Run the loop of a worker process: answer calls until the parent closes the connection or dies."""
    connection = Connection(descriptor)
    function = connection.recv()
    while True:
        try:
            arguments, seconds = connection.recv()
            connection.send(_guarded(function, arguments, seconds))
        except (EOFError, OSError):
            return


def _guarded(function: Callable, arguments: tuple, seconds: float) -> Any:
    """Return the `outcome` of a call. An alarm kills the process at the time limit, even inside a library."""
    global _limit
    _limit = seconds
    restart_time_limit()
    try:
        return outcome(function, arguments)
    finally:
        _limit = 0.0
        signal.setitimer(signal.ITIMER_REAL, 0)


def outcome(function: Callable, arguments: tuple) -> Any:
    """Call the function, in this process; return the result, a Failure or a StorageFault.

    Other exceptions are bugs in this project, not errors of the input: they are raised.
    """
    try:
        return function(*arguments)
    except DataError as error:
        return Failure(error.reason, error.path, may_pass=isinstance(error, Inaccessible))
    except StorageFault as fault:
        return fault
    except ANSWERS as error:
        return Failure(str(error) or type(error).__name__, may_pass=isinstance(error, OSError))
    except Exception as error:
        error.add_note(f"asked for {arguments}"[:_NOTED])
        raise
