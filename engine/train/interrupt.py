"""Being asked to stop: SIGTERM and SIGINT become a flag, which the ranks agree on at a step boundary."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from engine import distributed

AGREE_EVERY = 4  # steps between two exchanges of the flag: one number on the host, while the GPU has work
ECHO = 2.0  # seconds within which a signal is the first one again: torchrun passes on what its processes got, too
STDERR = 2
PROMISE = "stopping after the step or the evaluation under way; once more ends at once, without a checkpoint"


class Interrupt:
    """Use as a context manager around training. A second signal ends the process at once, without a checkpoint."""

    def __init__(self):
        self.reason: str | None = None
        self._launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        if self.reason and time.monotonic() > self._received + ECHO:
            os._exit(128 + number)
        if not self.reason:
            self.reason, self._received = signal.Signals(number).name, time.monotonic()
            if distributed.rank() == 0:
                self._answer()

    def _answer(self) -> None:
        """Say that the signal was heard: an evaluation may go on for minutes. Not by print, whose buffer it may have
        found in use.
        """
        with suppress(OSError):
            os.write(STDERR, f"{self.reason}: {PROMISE}\n".encode())

    def agreed(self, step: int) -> bool:
        """Whether all ranks are to stop after `step`. Every rank asks at every step; few of the calls exchange."""
        if distributed.world_size() > 1 and step % AGREE_EVERY:
            return False
        if self._launcher not in (None, os.getppid()) and not self.reason:
            # torchrun was killed, and nobody else would say so; without one, a shell may leave its job running
            self.reason, self._received = "the launcher has died", time.monotonic()
        if not distributed.any_rank(self.reason is not None):
            return False
        self.reason = next(filter(None, distributed.gather(self.reason)))
        return True
