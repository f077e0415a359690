"""Find out from a run's folder if its process is alive, stalled or dead, and how to continue the run."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from configs import cli
from engine import locks
from engine.console import duration
from engine.files import read_json
from engine.runs import checkpoint_files

COMMANDS = "command.txt"  # file in a run's folder with one line per start
_LINE_BREAK = "'$'\\n''"  # quoting of special characters for common shells
LATE = 180.0  # seconds without a heartbeat, which comes every minute, after which a run is stalled


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
        return Condition("none", "contains no run, or one that has not got as far as its first status")
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
    """Return the command line that continues a run: its last command, with --resume."""
    try:
        words = words_of(read_starts(folder)[-1][1])
    except (OSError, ValueError, IndexError):
        words = []
    if not words:
        return "train.py --config RECIPE --resume"
    kept = [word for word in words if word != "--fresh"]
    named = any(word.startswith("--resume=") or cli.names_run(kept, place) for place, word in enumerate(kept))
    return command_line(kept if named else [*(word for word in kept if word != "--resume"), "--resume"])


def use_of(folder: Path) -> str:
    """Return a line with the network of a finished run, and the commands that use it."""
    run, found = shlex.quote(str(folder)), checkpoint_files.note(folder / "best.pt")
    predict = f"python tools/predict.py VIDEO --weights {run}"
    if "top1" not in found:
        return f"the network is {folder / 'last.pt'}; next: {predict}"
    network = f"{folder / 'best.pt'} (top1 {100 * found['top1']:.2f}, step {found['step']})"
    return f"the network is {network}; next: python eval.py {run} --per-class, or {predict}"


def _is_locked(folder: Path) -> bool:
    if not (folder / locks.LOCK).exists():
        return False
    try:
        locks.take_lock(folder / locks.LOCK).close()
    except (locks.InUse, OSError):
        return True
    return False


def command_line(words: Iterable[str]) -> str:
    """Return words as one line for a shell, with quotes where necessary."""
    return shlex.join(words).replace("\n", _LINE_BREAK)


def words_of(line: str) -> list[str]:
    """Parse a line of `command_line` into words. Raises ValueError for other lines."""
    return shlex.split(line.replace(_LINE_BREAK, "\n"))


def read_starts(folder: Path) -> list[tuple[str, str]]:
    """Return time and command line of each start of a run; empty if its folder does not have them."""
    path = folder / COMMANDS
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""
    parts = (line.partition("  ") for line in text.split("\n"))
    return [(time, command) for time, _, command in parts if command]
