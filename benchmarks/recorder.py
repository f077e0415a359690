"""The form of a measurement's record: a line of JSON a case for programs, a line of text for people."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.environment import environment
from engine.environment import now


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
