"""The activity of this process, shared with the other ranks, and an end to waits that last too long.

The main thread names its activity with `doing` and reports progress with `progress`. A thread of `Watch` compares the
time since the last progress with runtime.timeout. If it has passed on this rank, or on all ranks while this one waits
for them, the rank that stalls is named, with its step, activity and file, and the process ends: a main thread that
hangs in a system call or in a collective cannot be asked to.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from configs.progress import listeners

logger = logging.getLogger(__name__)
RETRY = 75  # exit code: nothing is wrong with the settings, and starting again resumes the run (EX_TEMPFAIL)
BEAT = 1.0  # seconds between two exchanges with the other ranks
ANSWER = 2.5  # seconds in which a living rank must have renewed what it shares
GRACE = 4.0  # seconds for a main thread to end by itself once a rank has failed

Item = TypeVar("Item")


class Store(Protocol):
    """The part of torch's store that ranks share their activities through."""

    def set(self, key: str, value: str) -> None: ...

    def get(self, key: str) -> bytes: ...

    def check(self, keys: list[str]) -> bool: ...


class BoundedStore:
    """A store whose host may be cut off: a call that takes longer than ANSWER fails, and then all later ones at once.

    Torch's own calls would wait for the network as long as it likes.
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


@dataclass
class _Activity:
    name: str
    joint: bool  # it ends only together with the other ranks
    factor: float  # its limit, as a multiple of runtime.timeout
    detail: Callable[[], str]
    stage: bool  # a part of a run, and not only of a step


_activities = [_Activity("starting", False, 2.0, str, True)]
_step = 0
_progress = time.monotonic()


@contextmanager
def doing(
    name: str, *, joint: bool = False, factor: float = 1.0, detail: Callable[[], str] = str, stage: bool = False
) -> Iterator[None]:
    """Name the activity of the main thread for the block. `detail` names, say, the file that is being read.

    `joint`: it may last because of another rank. `factor`: how many times runtime.timeout it may last. `stage`: it is
    one of the parts of a run that status.json tells of.
    """
    _activities.append(_Activity(name, joint, factor, detail, stage))
    progress()
    try:
        yield
    finally:
        _activities.pop()
        progress()


def progress(step: int | None = None) -> None:
    """Note that this process has got further, and at which step of the training it is."""
    global _progress, _step
    _progress = time.monotonic()
    _step = _step if step is None else step


listeners.append(progress)


def waiting_for(items: Iterable[Item], name: str, detail: Callable[[], str] = str) -> Iterator[Item]:
    """Yield the items; the wait for each is an activity."""
    iterator, end = iter(items), object()
    while True:
        with doing(name, detail=detail):
            item = next(iterator, end)
        if item is end:
            return
        yield item


def activity() -> dict:
    """Return the activity of this process as others see it."""
    newest = _activities[-1]
    detail = ""
    with suppress(Exception):  # from a thread of another module, at any moment
        detail = newest.detail()
    return {
        "name": newest.name + (f" ({detail})" if detail else ""),
        "stage": next(entry.name for entry in reversed(_activities[:]) if entry.stage),
        "joint": newest.joint,
        "factor": newest.factor,
        "step": _step,
        "age": time.monotonic() - _progress,
    }


class Watch:
    """Watches this rank and the others as long as the block runs.

    `store` is None for a single process. `on_end` is called with the reason before the process is ended from here,
    `on_report` once with what a rank has reported under a key.
    """

    def __init__(self, limit: float, rank: int = 0, ranks: int = 1, store: Store | None = None):
        self.limit, self.rank, self.ranks = limit, rank, ranks
        self.on_end: Callable[[str], None] = lambda reason: None
        self.on_report: dict[str, Callable[[str], None]] = {}
        self._store = BoundedStore(store) if store is not None else None
        self._beats = 0
        self._stopped = threading.Event()

    def __enter__(self) -> Watch:
        progress()
        threading.Thread(target=self._run, name="watch", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()

    def report(self, key: str, text: str) -> None:
        """Tell the other ranks that this one has failed, or was interrupted; the first report of a key counts."""
        if self._store is not None:
            with suppress(Exception):  # the process that served the store may be gone
                if not self._store.check([key]):
                    self._store.set(key, text)

    def reported(self, key: str) -> str | None:
        """Return what a rank has reported under a key."""
        with suppress(Exception):
            if self._store is not None and self._store.check([key]):
                return self._store.get(key).decode()
        return None

    def all_answer(self, key: str) -> bool:
        """Report under a key for this rank, and wait up to ANSWER seconds for all ranks to do so; True if they did.

        False at once if a rank has failed; True if the process that serves the store has ended, as all are about to.
        """
        end = time.monotonic() + ANSWER
        try:
            self._store.set(f"{key}-{self.rank}", "here")
            while time.monotonic() < end and not self.reported("failed"):
                if all(self._store.check([f"{key}-{rank}"]) for rank in range(self.ranks)):
                    return True
                time.sleep(0.05)
        except Exception:  # of several kinds, by version of torch
            return True
        return False

    def silent_ranks(self) -> list[int]:
        """Return the ranks that share nothing any more. Takes a few seconds."""
        before, end = self._others(), time.monotonic() + ANSWER
        while time.monotonic() < end and not self._stopped.wait(BEAT / 4):
            self._share()  # the others may ask the same of this rank now
        after = self._others()
        if not self.reported(f"activity-{self.rank}"):
            return []  # the process that served the store has gone
        ranks = [rank for rank in range(self.ranks) if rank != self.rank]
        return [rank for rank in ranks if before.get(rank, {}).get("beat") == after.get(rank, {}).get("beat")]

    def last_activity(self, rank: int) -> str:
        """Return what another rank did when it last shared it."""
        return describe(rank, self._others().get(rank))

    def _run(self) -> None:
        while not self._stopped.wait(min(BEAT, self.limit / 4)):
            mine = self._share()
            for key in [key for key in self.on_report if self.reported(key)]:
                self.on_report.pop(key)(self.reported(key))
            if failure := self.reported("failed"):
                if not self._stopped.wait(GRACE):
                    self._end(failure)
            elif mine["age"] > self.limit * mine["factor"] and (reason := self._stall(mine)):
                self.report("failed", reason)
                self._end(self.reported("failed") or reason)

    def _share(self) -> dict:
        """Tell the other ranks of this rank's activity, and that it lives; return the activity."""
        mine = activity()
        self._beats += 1
        if self._store is not None:
            with suppress(Exception):
                self._store.set(f"activity-{self.rank}", json.dumps({**mine, "beat": self._beats}))
        return mine

    def _stall(self, mine: dict) -> str | None:
        """Return a sentence that names the rank that stalls, or None if a rank that this one waits for gets further."""
        others = self._others()
        silent = set(self.silent_ranks()) if self.ranks > 1 else set()
        if time.monotonic() - _progress < ANSWER:
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
        """End the process. The main thread may hang in what it does, and so may a disk, so nothing waits for either."""
        if self._stopped.is_set():
            return
        alone = self.rank == 0 or (self._store and self._store.lost)  # so nobody else says it
        logger.log(logging.ERROR if alone else logging.INFO, reason)
        last_words = threading.Thread(target=self.on_end, args=(reason,), daemon=True)
        last_words.start()
        last_words.join(GRACE)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(RETRY)


def describe(rank: int, its: dict | None) -> str:
    """Return an activity in words; None is that of a rank that has not shared any yet."""
    its = its or {"name": "starting", "step": 0}
    return f"rank {rank} was {its['name']}, step {its['step']}"
