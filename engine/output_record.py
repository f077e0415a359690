"""The record of a folder with results, `.tsm-dali.jsonl`: name and sha256 of each file that this project wrote."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

from engine.files import end_last_line, read_lines, temporary_file

RECORD = ".tsm-dali.jsonl"
LARGE = 2**24  # bytes from which size and time replace the hash of the content
MOST_ENTRIES = 1000  # entries in a record, beyond which older entries of the same files are dropped
_TITLE = "files that tsm-dali wrote into this folder; it replaces those that have not changed since"
_recording = threading.Lock()


def is_result(path: Path) -> bool:
    """Return True if a file is an unchanged result of this project, or has only grown by this project's appends."""
    entries = [entry for entry in _entries(path.parent) if entry.get("name") == path.name]
    if not entries or not is_plain(path):
        return False
    status = os.stat(path)
    if status.st_size >= LARGE and any(_stamp(entry) == [status.st_size, status.st_mtime_ns] for entry in entries):
        return True
    sizes = {entry.get("bytes") for entry in entries if entry.get("grows")}
    heads = {sha256_of(path, size) for size in sizes if isinstance(size, int) and status.st_size >= size}
    return any(entry.get("sha256") in (heads if entry.get("grows") else {sha256_of(path)}) for entry in entries)


def is_recorded(path: Path) -> bool:
    """Return True if this project wrote a file of this name, even if it has changed since."""
    return any(entry.get("name") == path.name for entry in _entries(path.parent))


def record(made: Path, path: Path, sha256: str | None = None, *, grows: bool = False) -> None:
    """Record the finished file `made` that will be moved to `path`, before the move, so that a kill never leaves an
    unknown file.

    `sha256` is its hash, if known; `grows`: lines will be appended.
    """
    status = os.stat(made)
    entry = {"name": path.name, "sha256": sha256 or sha256_of(made)}
    entry |= {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns} | ({"grows": True} if grows else {})
    with _recording:  # several threads write status, checkpoints and metrics
        _add_to_record(path.parent / RECORD, entry)


def record_growing(path: Path) -> None:
    """Record a file that another library appends to; it must already have a unique beginning."""
    if is_plain(path):
        record(path, path, grows=True)


def remove_unused_record(folder: Path) -> None:
    """Remove the record of a folder in which none of its files exists."""
    if not any(is_result(folder / str(entry.get("name"))) for entry in _entries(folder)):
        (folder / RECORD).unlink()


def _entries(folder: Path) -> list[dict]:
    """Return the entries of a folder's record; empty if there is no record."""
    return _read(folder / RECORD) or []


def _read(file: Path) -> list[dict] | None:
    """Return the entries of a record; empty if it does not exist, None if the file is not a record."""
    if not os.path.lexists(file):
        return []
    lines = list(read_lines(file)) if is_plain(file) else []
    return lines[1:] if lines[:1] == [{"about": _TITLE}] else None


def _add_to_record(file: Path, entry: dict) -> None:
    entries = _read(file)
    if entries == [] or (entries and len(entries) >= MOST_ENTRIES):
        with temporary_file(file.parent, "w", encoding="utf-8") as (temporary, opened):
            lines = [{"about": _TITLE}, *_newest(entries), entry]
            opened.write("".join(json.dumps(line) + "\n" for line in lines))
            opened.flush()
            temporary.replace(file)
    elif entries and os.stat(file).st_nlink == 1:
        end_last_line(file)
        with file.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(entry) + "\n")


def _newest(entries: list[dict]) -> list[dict]:
    """Return the last two entries of each file: after a kill, the file matches one of them."""
    newest: dict[object, list[dict]] = {}
    for entry in entries:
        newest[entry.get("name")] = [*newest.get(entry.get("name"), []), entry][-2:]
    return [entry for pair in newest.values() for entry in pair]


def _stamp(entry: dict) -> list:
    return [entry.get("bytes"), entry.get("mtime_ns")]


def is_plain(path: Path) -> bool:
    """Return True if a path is a regular file, not a link."""
    with suppress(OSError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def sha256_of(path: Path, size: int | None = None) -> str | None:
    """Hash a regular file, or its first `size` bytes; None for other paths."""
    if not is_plain(path):
        return None
    with path.open("rb") as file:
        return digest(file.read(size)) if size else hashlib.file_digest(file, "sha256").hexdigest()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
