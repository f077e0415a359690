"""Tell from a run's folder whether its process is alive, stalled or dead, and how to continue the run."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from engine import locks
from engine.console import duration
from engine.files import read_json

LATE = 180.0  # seconds after which a heartbeat that comes every minute has stopped


class Condition(NamedTuple):
    """`state` is alive, stalled, dead, finished or none (no run); `text` is for people."""

    state: str
    text: str


def condition(folder: Path) -> Condition:
    """Return the condition of the run in a folder."""
    try:
        status = read_json(folder / "status.json")
        age = (datetime.now(UTC) - datetime.fromisoformat(status["time"])).total_seconds()
        state, step = status["state"], status["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return Condition("none", "holds no run, or one that has not got as far as its first status")
    place = f"step {step}, {status.get('phase', 'unknown phase')}, written {duration(age)} ago"
    process = f"process {status.get('pid', '?')} on {status.get('host', '?')}"
    if state == "finished":
        return Condition("finished", f"finished at step {step}")
    if _is_locked(folder):
        if age <= LATE:
            return Condition("alive", f"alive: {place} by {process}")
        return Condition(
            "stalled", f"stalled: {process} lives, but writes nothing: {place}; end it: kill -9 {status.get('pid')}"
        )
    reason, *more = str(status.get("reason") or "").splitlines() or [""]
    reason = f" ({reason}{' ...' if more else ''})" if reason else ""
    ended = "dead: it ended without a word" if state == "running" else f"{state}{reason}"
    newest = Path(status.get("checkpoint") or "no checkpoint").name
    return Condition("dead", f"{ended}; {place}; {newest}; continue: {resume_command(folder)}")


def resume_command(folder: Path) -> str:
    """Return the command line that continues a run: the last one that worked on the folder, with --resume."""
    try:
        *_, last = (folder / "command.txt").read_text().splitlines()
        words = shlex.split(last.partition("  ")[2])
    except (OSError, ValueError):
        words = []
    if not words:
        return "train.py --config RECIPE --resume"
    kept = [word for word in words if word not in ("--resume", "--fresh")]
    return shlex.join([*kept, "--resume"])


def _is_locked(folder: Path) -> bool:
    if not (folder / locks.LOCK).exists():
        return False
    try:
        locks.take_lock(folder / locks.LOCK).close()
    except (locks.InUse, OSError):
        return True
    return False
