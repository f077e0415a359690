"""Stop a run at any moment, because of a signal or a storage failure.

While the run trains, either sets a flag, which the ranks exchange at step boundaries; then the run saves and ends. At
any other moment (start-up, scan, evaluation, a long wait), everything has been saved already, so the process writes its
status and ends. A thread does that, because the main thread may be in a system call or a collective.
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
from engine import activity, distributed, watch

logger = logging.getLogger(__name__)
SIGNALS = tuple(
    signal.Signals(number)
    for number in (
        signal.SIGTERM,  # schedulers, torchrun
        signal.SIGINT,  # Ctrl-C
        signal.SIGHUP,  # a closed terminal or connection
        signal.SIGQUIT,
        signal.SIGUSR1,  # SLURM's --signal and other notices of preemption
        signal.SIGXCPU,  # batch systems, before the time limit
    )
)
AGREE_EVERY = 4  # steps between two exchanges of the flag (one number on the host, while the GPU has work)
ECHO = 2.0  # seconds within which a repeated signal counts as the same: torchrun forwards signals
GRACE = 20.0  # seconds to reach a step boundary; schedulers kill 30 s after a signal
STDERR = 2
PROMISE = "stopping after this step, or at once if the run does not train; once more ends without a checkpoint"
TRAINING = "training"  # the stage of `activity.doing` in which a signal waits for a step boundary


class Interrupt:
    """Handles signals of a run, as a context manager. A second signal ends the process at once, without a checkpoint.

    Signals that were ignored at the start, as SIGHUP after `nohup`, remain ignored.
    `on_end(state, reason)` writes the status before this object ends the process.
    """

    count = 0  # number of runs in this process, the same on all ranks

    def __init__(self, on_end: Callable[[str, str], None] = lambda state, reason: None):
        Interrupt.count += 1
        self._key = f"interrupted-{Interrupt.count}"
        self._over = threading.Event()
        self.reason: str | StorageFault | None = None
        self._on_end = on_end
        self._launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None

    def __enter__(self) -> Interrupt:
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._receive)
        # Python runs handlers in the main thread, when it is back in Python; the wake-up descriptor gets the signal at
        # once
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()
        distributed.on_report(self._key, self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Restore the signal handlers, after the run has ended and its status was written."""
        if self._over.is_set():
            return
        self._over.set()
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._write)  # stops the thread
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def storage_failed(self, fault: StorageFault) -> None:
        """Ask all ranks to stop, because this rank gets no further batches."""
        if not self.reason:
            self.reason, self._received = fault, time.monotonic()

    def agreed(self, step: int, at_once: bool = False) -> bool:
        """Return True if all ranks shall stop after `step`. Every rank calls it at every step, but few calls
        communicate.

        With `at_once` they communicate now, because the run could not stop later: at an epoch's end, since a run that
        is stopped in the following evaluation saves nothing more; and before steps with videos in a store, which may
        fail for some ranks.
        """
        if distributed.world_size() > 1 and step % AGREE_EVERY and not at_once:
            return False
        if self._launcher not in (None, os.getppid()) and not self.reason:
            # torchrun was killed and cannot send a signal; without torchrun, a shell may leave its job running on
            # purpose
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
        """Confirm the signal, without print or logging, whose buffers and locks may be in use."""
        with suppress(OSError):
            os.write(STDERR, f"{self.reason}: {PROMISE}\n".encode())

    def _listen(self) -> None:
        """Receive the signals in a thread; end the process if the main thread has nothing to save."""
        while received := os.read(self._read, 1):
            if received[0] in self._before:
                self._receive(received[0], None)
                distributed.report(self._key, self.reason)
                threading.Thread(target=self._end_unless_training, daemon=True).start()
        os.close(self._read)

    def _hear(self, reason: str) -> None:
        """Stop because another rank was interrupted."""
        if not self.reason:
            self.reason, self._received = reason, time.monotonic()
            threading.Thread(target=self._end_unless_training, daemon=True).start()

    def _end_unless_training(self) -> None:
        deadline = time.monotonic() + GRACE
        while activity.current()["stage"] == TRAINING and time.monotonic() < deadline:
            if self._over.wait(0.1):
                return
        failure = distributed.failure(self._key)  # torchrun sends SIGTERM to the other ranks after one has failed
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
