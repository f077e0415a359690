"""Being asked to stop: SIGTERM and SIGINT become a flag, which the ranks agree on at a step boundary."""

from __future__ import annotations

import os
import signal

from engine import distributed

AGREE_EVERY = 8  # steps between two exchanges of the flag: a few numbers on the host, hidden behind the GPU's work


class Interrupt:
    """Use as a context manager around training. A second signal ends the process at once, without a checkpoint."""

    def __init__(self):
        self.reason: str | None = None
        self._parent = os.getppid()

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        if self.reason:
            os._exit(128 + number)
        self.reason = signal.Signals(number).name

    def agreed(self, step: int) -> bool:
        """Whether all ranks are to stop after `step`. Asked by every rank at every step; few of the calls exchange."""
        if distributed.world_size() > 1 and step % AGREE_EVERY:
            return False
        if os.getppid() != self._parent:  # torchrun was killed: nobody is left to send a signal
            self.reason = self.reason or "the launcher has died"
        reasons = [reason for reason in distributed.gather(self.reason) if reason]
        self.reason = self.reason or (reasons[0] if reasons else None)
        return bool(reasons)
