"""Share the activity of this process with the other ranks, and end waits that last too long.

The main thread names its activity and reports progress (`activity.py`). A thread of `Watch` compares the time since the
last progress with runtime.timeout. If it has passed on this rank, or on all ranks while this one waits for them, the
stalled rank is named, with its step, activity and file, and the process ends. The thread ends it, because the main
thread may hang in a system call or a collective.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from engine import activity

logger = logging.getLogger(__name__)
RETRY = 75  # exit code EX_TEMPFAIL: the settings are right, and starting again resumes the run
BEAT = 1.0  # seconds between exchanges with the other ranks
ANSWER = 2.5  # seconds within which a living rank must update its shared activity
GRACE = 4.0  # seconds for the main thread to end by itself after a rank has failed
PAUSED = 5.0  # seconds by which a beat is late if the whole process was stopped, and not only busy


class Store(Protocol):
    """The interface of torch's store, through which ranks share their activities."""

    def set(self, key: str, value: str) -> None: ...

    def get(self, key: str) -> bytes: ...

    def check(self, keys: list[str]) -> bool: ...


class BoundedStore:
    """A store for a host that may be cut off: a call that takes longer than ANSWER fails, and then all later ones at
    once.

    torch's calls have no such limit.
    """

    def __init__(self, store: Store):
        self._store = store
        self.lost = False

    def set(self, key: str, value: str) -> None:
        self._call(self._store.set, key, value)

    def get(self, key: str) -> bytes:
        return self._call(self._store.get, key)

    def check(self, keys: list[str]) -> bool:
        return self._call(self._store.check, keys)

    def _call(self, call: Callable, *arguments: object) -> object:
        if self.lost:
            raise TimeoutError
        answers: list[tuple[object, Exception | None]] = []

        def ask() -> None:
            try:
                answers.append((call(*arguments), None))
            except Exception as error:
                answers.append((None, error))

        thread = threading.Thread(target=ask, name="store", daemon=True)
        thread.start()
        thread.join(ANSWER)
        if not answers:
            self.lost = True
            raise TimeoutError
        answer, error = answers[0]
        if error:
            raise error
        return answer


class Watch:
    """Watches this rank and the others during the block.

    `store` is None for a single process. `on_end` is called with the reason before the watch ends the process;
    `on_report` once with the text that a rank reports under a key.
    """

    def __init__(self, limit: float, rank: int = 0, ranks: int = 1, store: Store | None = None):
        self.limit, self.rank, self.ranks = limit, rank, ranks
        self.on_end: Callable[[str], None] = lambda reason: None
        self.on_report: dict[str, Callable[[str], None]] = {}
        self._store = BoundedStore(store) if store is not None else None
        self._beats = 0
        self._stopped = threading.Event()

    def __enter__(self) -> Watch:
        activity.progress()
        threading.Thread(target=self._run, name="watch", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()

    def report(self, key: str, text: str) -> None:
        """Report to the other ranks that this one failed or was interrupted; the first report under a key counts."""
        if self._store is not None:
            with suppress(Exception):  # the process with the store may be gone
                if not self._store.check([key]):
                    self._store.set(key, text)

    def reported(self, key: str) -> str | None:
        """Return the text that a rank has reported under a key."""
        with suppress(Exception):
            if self._store is not None and self._store.check([key]):
                return self._store.get(key).decode()
        return None

    def all_answer(self, key: str) -> bool:
        """Report under a key, and wait up to ANSWER seconds for all ranks to do the same; return True if they did.

        False at once if a rank has failed; True if the process with the store has ended, since all are about to end.
        """
        end = time.monotonic() + ANSWER
        try:
            self._store.set(f"{key}-{self.rank}", "here")
            while time.monotonic() < end and not self.reported("failed"):
                if all(self._store.check([f"{key}-{rank}"]) for rank in range(self.ranks)):
                    return True
                time.sleep(0.05)
        except Exception:  # the exception type depends on torch's version
            return True
        return False

    def silent_ranks(self) -> list[int]:
        """Return the ranks that no longer update their activity. Takes a few seconds."""
        before, end = self._others(), time.monotonic() + ANSWER
        while time.monotonic() < end and not self._stopped.wait(BEAT / 4):
            self._share()  # other ranks may check this rank now
        after = self._others()
        if not self.reported(f"activity-{self.rank}"):
            return []  # the process with the store is gone
        ranks = [rank for rank in range(self.ranks) if rank != self.rank]
        return [rank for rank in ranks if before.get(rank, {}).get("beat") == after.get(rank, {}).get("beat")]

    def last_activity(self, rank: int) -> str:
        """Return the last shared activity of another rank."""
        return describe(rank, self._others().get(rank))

    def _run(self) -> None:
        interval = min(BEAT, self.limit / 4)
        begun = time.monotonic()
        while not self._stopped.wait(interval):
            mine = self._share()
            late, begun = time.monotonic() - begun - interval, time.monotonic()
            if late > PAUSED:  # SIGSTOP, Ctrl-Z, or a suspended job or container
                activity.leave_out(late)
                continue
            for key in [key for key in self.on_report if self.reported(key)]:
                self.on_report.pop(key)(self.reported(key))
            if failure := self.reported("failed"):
                if not self._stopped.wait(GRACE):
                    self._end(failure)
            elif mine["age"] > self.limit * mine["factor"] and (reason := self._stall(mine)):
                self.report("failed", reason)
                self._end(self.reported("failed") or reason)
            begun = time.monotonic()

    def _share(self) -> dict:
        """Share this rank's activity, which shows that it is alive; return the activity."""
        mine = activity.current()
        self._beats += 1
        if self._store is not None:
            with suppress(Exception):
                self._store.set(f"activity-{self.rank}", json.dumps({**mine, "beat": self._beats}))
        return mine

    def _stall(self, mine: dict) -> str | None:
        """Return a sentence with the stalled rank, or None if a rank that this one waits for makes progress."""
        others = self._others()
        silent = set(self.silent_ranks()) if self.ranks > 1 else set()
        if activity.age() < ANSWER:
            return None
        busy = [rank for rank, its in others.items() if rank not in silent and its["age"] < self.limit * its["factor"]]
        if mine["joint"] and busy:
            return None
        parts = ["rank 0, or torchrun on its host, does not answer"] if self._store and self._store.lost else []
        parts += [f"rank {rank} does not answer; before, {describe(rank, others.get(rank))}" for rank in sorted(silent)]
        living = {rank: its for rank, its in others.items() if rank not in silent and rank not in busy}
        everyone = sorted({**living, self.rank: mine}.items(), key=lambda entry: (entry[1]["joint"], entry[0]))
        parts += [f"{describe(rank, its)}, for {its['age']:.0f} s" for rank, its in everyone]
        return f"no progress for {self.limit:g} s (runtime.timeout): {'; '.join(parts)}"

    def _others(self) -> dict[int, dict]:
        found = {}
        for rank in range(self.ranks if self._store is not None else 0):
            text = self.reported(f"activity-{rank}")
            if rank != self.rank and text:
                found[rank] = json.loads(text)
        return found

    def _end(self, reason: str) -> None:
        """End the process without waiting for the main thread or the disk, which may hang."""
        if self._stopped.is_set():
            return
        alone = self.rank == 0 or (self._store and self._store.lost)  # no other rank reports it
        logger.log(logging.ERROR if alone else logging.INFO, reason)
        last_words = threading.Thread(target=self.on_end, args=(reason,), daemon=True)
        last_words.start()
        last_words.join(GRACE)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(RETRY)


def describe(rank: int, its: dict | None) -> str:
    """Describe an activity; None means that the rank has not shared any yet."""
    its = its or {"name": "starting", "step": 0}
    return f"rank {rank} was {its['name']}, step {its['step']}"
