"""Signals, and storage that fails, ask a run to stop, at any moment of it.

While the run trains, either sets a flag, which the ranks agree on at a step boundary; the run saves and ends there.
At any other moment (start-up, scan, evaluation, a wait that lasts) there is nothing to save that has not been saved, so
the process writes its status and ends. A thread does that: the main thread may be in a system call or a collective.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from dali_pipes.storage.faults import StorageFault
from engine import distributed, watch

logger = logging.getLogger(__name__)
SIGNALS = tuple(
    signal.Signals(number)
    for number in (
        signal.SIGTERM,  # schedulers, torchrun
        signal.SIGINT,  # Ctrl-C
        signal.SIGHUP,  # a terminal or a connection that closes
        signal.SIGQUIT,
        signal.SIGUSR1,  # SLURM's --signal and other notices of preemption
        signal.SIGXCPU,  # batch systems, before the time is up
    )
)
AGREE_EVERY = 4  # steps between two exchanges of the flag: one number on the host, while the GPU has work
ECHO = 2.0  # seconds within which a signal is the first one again: torchrun passes on what its processes got, too
GRACE = 20.0  # seconds for training to reach a step boundary; schedulers kill 30 s after a signal
STDERR = 2
PROMISE = "stopping after this step, or at once if the run does not train; once more ends without a checkpoint"
TRAINING = "training"  # the stage, as `watch.doing` names it, in which a signal waits for a step boundary


class Interrupt:
    """Use as a context manager around a run. A second signal ends the process at once, without a checkpoint.

    `on_end(state, reason)` writes the status before this object ends the process.
    """

    count = 0  # of runs in this process; all ranks count alike

    def __init__(self, on_end: Callable[[str, str], None] = lambda state, reason: None):
        Interrupt.count += 1
        self._key = f"interrupted-{Interrupt.count}"
        self._over = threading.Event()
        self.reason: str | StorageFault | None = None
        self._on_end = on_end
        self._launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        # Python runs a handler in the main thread, once that is back in Python; the kernel's number arrives at once
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()
        distributed.on_report(self._key, self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the signals back. The run is over, and its status written."""
        if self._over.is_set():
            return
        self._over.set()
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._write)  # ends the thread
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def storage_failed(self, fault: StorageFault) -> None:
        """Ask all ranks to stop, since this one gets no further batch."""
        if not self.reason:
            self.reason, self._received = fault, time.monotonic()

    def agreed(self, step: int, at_once: bool = False) -> bool:
        """Return True if all ranks are to stop after `step`. Every rank calls it at every step; few calls exchange.

        They do `at_once` where the run could not stop later: at an epoch's end, since a run that is stopped in the
        evaluation after it saves nothing more, and before steps whose batches a store may not give to every rank.
        """
        if distributed.world_size() > 1 and step % AGREE_EVERY and not at_once:
            return False
        if self._launcher not in (None, os.getppid()) and not self.reason:
            # torchrun was killed and cannot signal; without torchrun, a shell may leave its job running on purpose
            self.reason, self._received = "the launcher has died", time.monotonic()
        if not distributed.any_rank(self.reason is not None):
            return False
        self.reason = next(filter(None, distributed.gather(self.reason)))
        return True

    def _receive(self, number: int, frame: object) -> None:
        if self.reason and time.monotonic() > self._received + ECHO:
            self._end("preempted", f"{signal.Signals(number).name}, twice", 128 + number)
        if not self.reason:
            self.reason, self._received = signal.Signals(number).name, time.monotonic()
            if distributed.rank() == 0:
                self._answer()

    def _answer(self) -> None:
        """Confirm the signal. Not by print or logging, whose buffers and locks the signal may have found in use."""
        with suppress(OSError):
            os.write(STDERR, f"{self.reason}: {PROMISE}\n".encode())

    def _listen(self) -> None:
        """Receive the signals outside of the main thread; end the process where the main thread has nothing to save."""
        while received := os.read(self._read, 1):
            if received[0] in SIGNALS:
                self._receive(received[0], None)
                distributed.report(self._key, self.reason)
                threading.Thread(target=self._end_unless_training, daemon=True).start()
        os.close(self._read)

    def _hear(self, reason: str) -> None:
        """Follow another rank, which was interrupted."""
        if not self.reason:
            self.reason, self._received = reason, time.monotonic()
            threading.Thread(target=self._end_unless_training, daemon=True).start()

    def _end_unless_training(self) -> None:
        deadline = time.monotonic() + GRACE
        while watch.activity()["stage"] == TRAINING and time.monotonic() < deadline:
            if self._over.wait(0.1):
                return
        failure = distributed.failure(self._key)  # torchrun sends SIGTERM to the other ranks once one has failed
        if self._over.is_set():
            return
        self._end("failed", failure, watch.RETRY) if failure else self._end("preempted", self.reason, 0)

    def _end(self, state: str, reason: str, code: int) -> None:
        def finish() -> None:
            self._on_end(state, reason)
            logger.log(logging.ERROR if state == "failed" else logging.INFO, f"{state}: {reason}")

        last_words = threading.Thread(target=finish, daemon=True)
        last_words.start()
        last_words.join(2.0)  # a disk may hang
        os._exit(code)
