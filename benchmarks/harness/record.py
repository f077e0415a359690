"""Record measurements with the environment that they depend on: versions, machine, commit and command."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from configs import Config, flat
from engine.runs.environment import environment as of_the_machine
from engine.runs.environment import now


@cache
def environment() -> dict:
    """Return versions, commit and machine as a run records them, the GPU's driver and the command line.

    Files outside the project appear by name only, without their folder.
    """
    words = [without_folder(word) for word in sys.argv]
    return {**of_the_machine(), "driver": gpu_query("driver_version"), "command": shlex.join(words)}


def settings_of(config: Config) -> dict:
    """Return every setting by its dotted key; files outside the project appear by name only."""
    return {key: without_folder(value) if isinstance(value, str) else value for key, value in flat(config).items()}


def without_folder(word: str) -> str:
    """Reduce a path outside the project to its file name; return anything else unchanged."""
    return Path(word).name if word.startswith(("/", "..")) else word


def gpu_query(field: str) -> str | None:
    """Query one field of `nvidia-smi --query-gpu` for the first GPU visible to CUDA (nvidia-smi lists all of a host).

    Returns None if there is no such program or field.
    """
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits", f"--id={gpu}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


@contextmanager
def watched_gpu(field: str) -> Iterator[list[float]]:
    """Collect readings of one field in a list while the block runs; the list stays empty without a GPU."""
    readings: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set() and (value := gpu_query(field) or "").replace(".", "").isdigit():
            readings.append(float(value))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield readings
    finally:
        done.set()
        watcher.join()


class Recorder:
    """Writes each case immediately, so that results survive later failures.

    Writes one JSON object per line, with the environment, to `file`, and unless it is `quiet` to stdout, with a
    readable line to stderr.
    """

    def __init__(self, bench: str, file: Path, *, quiet: bool = False):
        self._bench = bench
        self._quiet = quiet
        self._file = file.open("a")

    def add(self, case: str, **found: Any) -> None:
        """Record what was found about a case."""
        record = {"bench": self._bench, "case": case, **found, "time": now(), "env": environment()}
        line = json.dumps(record)
        print(line, file=self._file, flush=True)
        if self._quiet:
            return
        print(line, flush=True)
        print(f"{case:<44} {_readable(found)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._file.close()


def _readable(found: dict) -> str:
    """Format the numbers of a record in one line; texts are cut to their first line."""

    def short(value: Any) -> str:
        if isinstance(value, list):
            return "..".join(map(short, value))
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return (text.splitlines() or [""])[0][:150]

    return "  ".join(f"{name} {short(value)}" for name, value in found.items() if value is not None)
