"""Compare the CPU time of a task in this checkout with that in another one, alternately."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from benchmarks.harness.measure import spread

ROOT = Path(__file__).resolve().parents[2]
_NOTHING: Mapping[str, str] = MappingProxyType({})
_LOOP = """
for line in sys.stdin:
    path, spent = line.rstrip("\\n"), 0.0
    for _ in range(times):
        prepared = prepare(path)
        began = time.process_time()
        task(prepared)
        spent += time.process_time() - began
    print(1e3 * spent / (times * each), flush=True)
"""


class Worker:
    """A process of a checkout that runs a task for one video after the other.

    `script` defines `prepare`, a function of the path, and `task`, a function of the result of `prepare`. Both are
    called `times` times; each call of the task processes `each` items.
    """

    def __init__(self, checkout: Path, script: str, environment: Mapping[str, str]):
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import sys, time\n{script}{_LOOP}"],
            cwd=checkout,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def milliseconds(self, path: Path) -> float:
        """Return the CPU time of one item of the task for a video."""
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def workers(script: str, before: Path | None, environment: Mapping[str, str] = _NOTHING) -> dict[str, Worker]:
    """Start a worker of this checkout, and of the one to compare it with if there is one."""
    checkouts = {"now": ROOT} | ({"before": before} if before else {})
    return {name: Worker(folder, script, environment) for name, folder in checkouts.items()}


def measure(path: Path, workers: dict[str, Worker], rounds: int) -> dict:
    """Return the CPU milliseconds of each checkout, and the median of the ratios of each turn."""
    for worker in workers.values():
        worker.milliseconds(path)
    times: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(rounds):
        for name in sorted(workers, reverse=turn % 2 == 1):
            times[name].append(workers[name].milliseconds(path))
    found = {"ms": {name: spread(values)[0] for name, values in times.items()}}
    if "before" in times:
        ratios = [now / before for now, before in zip(times["now"], times["before"], strict=True)]
        found["now_over_before"], found["quartiles"] = spread(ratios)
    return found
