"""Handle temporary files, free disk space, JSON, and files of lines that survive a kill."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from configs.locks import lock_open_file, open_to_lock

_PREFIX = ".tmp-"
_NAME = re.compile(rf"{re.escape(_PREFIX)}([0-9a-f]{{16}})([0-9a-f]{{8}})")
_DAY = 86400.0  # seconds
SMALL_JSON = 2**20  # bytes; sidecars and status files have a few hundred


@contextmanager
def temporary_path(folder: Path, suffix: str = "") -> Iterator[Path]:
    """Create an empty file with a unique name; it is removed at the end unless the block has moved it.

    The first call for a folder removes leftovers of killed processes there.
    """
    _remove_leftovers_once(folder)
    path, lock = _new(folder, suffix, lambda path: path.open("xb").close())
    try:
        yield path
    finally:
        os.close(lock)
        path.unlink(missing_ok=True)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Create a temporary folder, like `temporary_path`; it is removed with its contents."""
    _remove_leftovers_once(parent)
    folder, lock = _new(parent, "", Path.mkdir)
    try:
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders of processes that were killed.

    Only names made by `temporary_path` are considered; the second half of such a name is a checksum of the first.
    """
    for path in folder.glob(f"{_PREFIX}*"):
        if _is_temporary(path.name) and not path.is_symlink():
            with suppress(OSError):  # another process removed it, or it belongs to another user
                _remove_unless_in_use(path)


_remove_leftovers_once = cache(remove_leftovers)


def _remove_unless_in_use(path: Path) -> None:
    descriptor = open_to_lock(path)
    try:
        locked = lock_open_file(descriptor)
        if locked is None:  # no locks on this file system
            locked = time.time() - os.fstat(descriptor).st_mtime > _DAY
        if locked and path.is_dir():
            shutil.rmtree(path)
        elif locked:
            path.unlink()
    finally:
        os.close(descriptor)


def _new(parent: Path, suffix: str, make: Callable[[Path], object]) -> tuple[Path, int]:
    """Create a file or folder and lock it, which shows that its writer is alive; return its path and the open lock.

    Before it is locked, another process may remove it as a leftover; then another one is created.
    """
    while True:
        path = parent / _new_name(suffix)
        try:
            make(path)
        except OSError as error:
            error.filename = os.fspath(parent)  # which the user knows, unlike the name that it would have had
            raise
        with suppress(FileNotFoundError):
            lock = open_to_lock(path)
            if lock_open_file(lock) is not False and os.path.lexists(path):
                return path, lock
            os.close(lock)


def _new_name(suffix: str) -> str:
    half = secrets.token_hex(8)
    return f"{_PREFIX}{half}{_check_of(half)}{suffix}"


def _is_temporary(name: str) -> bool:
    found = _NAME.match(name)
    return bool(found) and found[2] == _check_of(found[1])


def _check_of(half: str) -> str:
    return hashlib.sha256(f"temporary file of tsm-dali {half}".encode()).hexdigest()[:8]


@contextmanager
def temporary_file(folder: Path, mode: str = "w", **text: str) -> Iterator[tuple[Path, IO]]:
    """Open a new temporary file, like `temporary_path`; yield its path and the open file."""
    with temporary_path(folder) as path, path.open(mode, **text) as file:
        yield path, file


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Add the path to OSErrors of the block, which writes this file: the error of a full disk has no path."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def ignores_case(file: Path) -> bool:
    """Return True if the file system of an existing file ignores the case of names."""
    with suppress(OSError):
        return os.path.samefile(file, file.with_name(file.name.upper()))
    return False


def lack_of_room(folder: Path, need: int, what: str) -> str | None:
    """Return an error text if `folder` lacks `need` free bytes, or if files may not be as large, otherwise None: some
    libraries report neither.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and limit < need:
        limits = f"files may have at most {limit / 2**20:,.1f} MiB (ulimit -f)"
        return f"{folder}: {limits}, but {what} needs {need / 2**20:,.1f} MiB; raise that limit"
    free = shutil.disk_usage(folder).free
    if free >= need:
        return None
    return f"{folder}: {free / 2**20:,.1f} MiB free, but {what} needs {need / 2**20:,.1f} MiB; make room"


def read_json(path: Path, most: int = SMALL_JSON) -> object:
    """Return the content of a JSON file. Raises ValueError if it is not JSON, nested too deeply, or above `most`
    bytes.
    """
    if path.stat().st_size > most:
        raise ValueError(f"{path} has more than {most} bytes")
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> object:
    """Parse JSON. Raises ValueError, also for nesting that is too deep."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def end_last_line(path: Path) -> None:
    """End an incomplete last line, which a kill may have left, so that the next text starts on a new line."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def read_lines(path: Path) -> Iterator[dict]:
    """Yield the objects of a .jsonl file, without a truncated last line; nothing if there is no file."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.split("\n"):  # not splitlines, which also splits at characters that JSON strings may contain
        try:
            yield parse_json(line)
        except ValueError:
            continue
