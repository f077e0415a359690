"""What a measurement depends on beside its own settings: kept beside every number, so that it can be judged later."""

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
    """Versions, commit and machine as a run records them, and the GPU's driver and the command line.

    Files outside the project appear by name alone: where they lie is nobody's business.
    """
    words = [without_folder(word) for word in sys.argv]
    return {**of_the_machine(), "driver": gpu_query("driver_version"), "command": shlex.join(words)}


def settings_of(config: Config) -> dict:
    """Every setting by its dotted key; files outside the project by name alone here, too."""
    return {key: without_folder(value) if isinstance(value, str) else value for key, value in flat(config).items()}


def without_folder(word: str) -> str:
    """A path outside the project by its last name; anything else as it is."""
    return Path(word).name if word.startswith(("/", "..")) else word


def gpu_query(field: str) -> str | None:
    """One field of `nvidia-smi --query-gpu` for the first GPU that CUDA may use (nvidia-smi sees all of a host).

    None where there is no such program or field.
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
    """A list that fills with readings of one field for as long as the block runs; it stays empty without a GPU."""
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
    """Writes each case at once, so that what was measured survives whatever comes after.

    To stdout and to `file`: one JSON object a line, with the environment. To stderr: one line for people.
    """

    def __init__(self, bench: str, file: Path):
        self._bench = bench
        self._file = file.open("a")

    def add(self, case: str, **found: Any) -> None:
        """Record what was found about a case."""
        record = {"bench": self._bench, "case": case, **found, "time": now(), "env": environment()}
        line = json.dumps(record)
        for out in (self._file, sys.stdout):
            print(line, file=out, flush=True)
        print(f"{case:<44} {_readable(found)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._file.close()


def _readable(found: dict) -> str:
    """The numbers of a record in a line; of longer texts, the first line."""

    def short(value: Any) -> str:
        if isinstance(value, list):
            return "..".join(map(short, value))
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return (text.splitlines() or [""])[0][:150]

    return "  ".join(f"{name} {short(value)}" for name, value in found.items() if value is not None)
