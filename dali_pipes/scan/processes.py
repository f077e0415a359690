"""Call a function on many inputs in several processes; an input that crashes or hangs its process loses only itself.

The pools of the standard library are not enough: if a process dies they do not tell on which input, they cannot end a
single hung process, and their processes import the program's main module (here: torch and DALI) before the first
input. These import only the function's module.
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

from dali_pipes.errors import DataError
from dali_pipes.storage.faults import StorageFault

ANSWERS = (DataError, OSError, MemoryError)  # exceptions that an input may cause; any other is a bug of ours
OWN_MISTAKE = 1  # Python's exit status after an uncaught exception
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 26)}
"""Environment of the processes: glibc keeps up to 64 MiB of freed memory for the next input. To get it back from the
system, page by page, costs more than to read the headers of a short video (mallopt(3); these are the largest values to
which glibc adapts by itself)."""
PATIENCE = 60.0  # seconds without progress after which a call is ended, and one more for each MB of its file
_NOTED = 300  # characters of the arguments that a traceback shows


class Call(NamedTuple):
    """One input: the caller's key for it, the function's arguments, and the time limit, which `go_on` starts anew."""

    key: Any
    arguments: tuple
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A call without a result: the exception's text, or how the process ended."""

    reason: str
    path: str = ""  # that a DataError is about

    def reason_for(self, path: str) -> str:
        """Return the reason; with the path that it is about, if that is another one."""
        return self.reason if self.path in ("", path) else f"{self.path}: {self.reason}"


def seconds_for(size: int) -> float:
    """Return the time limit of a call that reads a file of so many bytes."""
    return PATIENCE + size / 1e6


def call_all(function: Callable, calls: Iterable[Call], count: int) -> Iterator[tuple[Any, Any]]:
    """Yield (key, result or Failure) of every call as they finish, from at most `count` processes.

    `function` must be importable by its name. Raises RuntimeError if a process does not start, or the function raises
    another exception than ANSWERS, and the StorageFault of a call: no input is to blame for it.
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
                call = next(waiting, None)
                if call is None:
                    worker.end()
                else:
                    assign(_Worker(function) if worker.ended else worker, call)
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
            start_new_session=True,  # the parent alone handles Ctrl-C
        )
        theirs.close()
        self.connection.send(function)

    def ask(self, call: Call) -> None:
        self.call = call
        with suppress(BrokenPipeError):  # it has died: `answer` reports it
            self.connection.send((call.arguments, call.seconds))

    def answer(self) -> Any:
        """Return the result, or a Failure if the process ended; to be called once the connection is readable."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            status = self.process.wait()
        if status == OWN_MISTAKE:
            raise RuntimeError("a scanning process did not come up, or made a mistake; its own message is above")
        if status == -signal.SIGALRM:
            return Failure(f"no progress for {self.call.seconds:.0f} s")
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return Failure(f"crashed the scanner ({name})")

    @property
    def ended(self) -> bool:
        return self.process.returncode is not None

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


_limit = 0.0  # of the call that this process answers; 0: there is none, as in a program


def go_on() -> None:
    """Start the time limit of the call anew: long work got a finite step further, such as a packet decoded.

    An hour of video takes as long as it takes. Without a limit, as outside these processes, nothing happens.
    """
    if _limit:
        signal.setitimer(signal.ITIMER_REAL, _limit)


def serve(descriptor: int) -> None:
    """Run in each process: answer calls until the parent closes the connection or dies."""
    connection = Connection(descriptor)
    function = connection.recv()
    while True:
        try:
            arguments, seconds = connection.recv()
            connection.send(_guarded(function, arguments, seconds))
        except (EOFError, OSError):
            return


def _guarded(function: Callable, arguments: tuple, seconds: float) -> Any:
    """Return the `outcome` of a call. An alarm ends the process after the limit, even inside a library."""
    global _limit
    _limit = seconds
    go_on()
    try:
        return outcome(function, arguments)
    finally:
        _limit = 0.0
        signal.setitimer(signal.ITIMER_REAL, 0)


def outcome(function: Callable, arguments: tuple) -> Any:
    """Call the function, in this process; return the result, a Failure or a StorageFault.

    Any other exception is a bug of ours, not a fault of the input: it is raised.
    """
    try:
        return function(*arguments)
    except DataError as error:
        return Failure(error.reason, error.path)
    except StorageFault as fault:
        return fault
    except ANSWERS as error:
        return Failure(str(error) or type(error).__name__)
    except Exception as error:
        error.add_note(f"asked for {arguments}"[:_NOTED])
        raise
