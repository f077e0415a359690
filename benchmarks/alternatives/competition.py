"""Run several implementations of the same work alternately, and record the speed of each relative to ours."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.harness.measure import rotated, spread
from benchmarks.harness.record import Recorder

Contenders = dict[str, Callable[[], float]]
"""By name; each call does a round and returns clips a second. The first is ours."""


class Competition:
    """Runs groups of implementations alternately for `rounds` rounds, so that drift affects all alike."""

    def __init__(self, recorder: Recorder, rounds: int):
        self._recorder = recorder
        self._rounds = rounds

    def compare(self, group: str, contenders: Contenders, notes: dict[str, dict], threads: int) -> None:
        """Measure a group and record each implementation, with its `notes`."""
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        names = list(contenders)
        for turn in range(self._rounds):
            for name in rotated(names, turn):
                rates[name].append(contenders[name]())
        ours = spread(rates[names[0]])[0]
        for name in names:
            median, quartiles = spread(rates[name])
            found = {"clips_per_s": median, "clips_per_s_iqr": quartiles, "ours_over_it": ours / median}
            self._recorder.add(f"{group}/{name}", **found, threads=threads, rounds=self._rounds, **notes[name])

    def skip(self, case: str, error: Exception) -> None:
        """Record the reason why an implementation is missing."""
        self._recorder.add(case, skipped=f"{type(error).__name__}: {str(error).splitlines()[0]}")
