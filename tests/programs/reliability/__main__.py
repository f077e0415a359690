"""Measure the promises of docs/reliability.md, and store the figures of each part with machine, commit and time.

    python -m tests.programs.reliability --out benchmarks/results/reliability.json [PART ...]

All parts take hours. A part replaces only its own figures in the file, so parts may run one after the other; with
--more it adds to those that the same commit has stored there.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import filelock

from engine.runs.environment import environment, now
from tests.programs.reliability import fault_loops, kill_loops, long_runs

PARTS: dict[str, tuple[Callable[[int, random.Random], dict], int]] = {
    "damaged_checkpoints": (kill_loops.damage, 800),
    "kills_inside_a_save": (kill_loops.kill_saves, 2000),
    "stalls": (fault_loops.stalls, 1),
    "signals": (fault_loops.signals, 40),
    "storage_outages": (fault_loops.outages, 10),
    "memory_of_a_long_run": (long_runs.memory, 2000),
    "steps_during_saves": (long_runs.saves, 20),
    "kills_of_a_run_of_1": (partial(kill_loops.kill_runs, 1), 100),
    "kills_of_a_run_of_2": (partial(kill_loops.kill_runs, 2), 100),
    "kills_of_a_run_of_3": (partial(kill_loops.kill_runs, 3), 50),
    "kills_of_a_run_of_4": (partial(kill_loops.kill_runs, 4), 50),
}


def figures_of(file: Path, part: str) -> dict:
    """Return the figures that this commit has stored in a file for a part; empty if there are none."""
    known = json.loads(file.read_text()).get(part, {}) if file.exists() else {}
    same = known.get("environment", {}).get("commit") == environment()["commit"]
    return {name: value for name, value in known.items() if name not in ("time", "environment")} if same else {}


def together(some: dict, more: dict) -> dict:
    """Add counts and lists of figures; take the maximum of seconds."""
    return {
        name: max(value, some.get(name, 0.0)) if isinstance(value, float) else some.get(name, type(value)()) + value
        for name, value in more.items()
    }


def record(file: Path, part: str, figures: dict) -> None:
    """Replace the figures of a part in a file."""
    with filelock.FileLock(f"{file}.lock"):
        known = json.loads(file.read_text()) if file.exists() else {}
        known[part] = {**figures, "time": now(), "environment": environment()}
        file.write_text(json.dumps({name: known[name] for name in PARTS if name in known}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all by default: {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--times", type=int, help="in place of each part's own number of times")
    parser.add_argument("--more", action="store_true", help="add to the figures of this commit")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    logging.disable(logging.WARNING)
    for part in args.parts or PARTS:
        measure, times = PARTS[part]
        before = figures_of(args.out, part) if args.more else {}
        figures = together(before, measure(args.times or times, random.Random(json.dumps(before))))
        record(args.out, part, figures)
        print(part, figures, flush=True)


if __name__ == "__main__":
    main()
