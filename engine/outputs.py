"""Write results where users keep files: replace only what this project wrote and nobody has changed since.

Each folder that receives results gets a small record, `.tsm-dali.jsonl`, of their names and sha256. A file in the way
that the record does not show to be a result is refused with one line, unless the user gives `--force`. A source of the
command is never replaced, and no write follows a link or changes a file in place, so other names of it keep its bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from configs import ConfigError
from engine.files import end_last_line, read_lines, temporary_file

RECORD = ".tsm-dali.jsonl"
_TITLE = "files that tsm-dali wrote into this folder; it replaces those that have not changed since"


def add_force_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--force`."""
    parser.add_argument("--force", action="store_true", help="replace files in the way that this project did not write")


class Outputs:
    """The files that one command writes.

    `sources` are the files that the command reads; links and other spellings of them count. `force` allows to replace
    other files that are in the way.
    """

    def __init__(self, sources: Iterable[str | os.PathLike] = (), force: bool = False):
        self._sources = {identity for source in sources if source and (identity := _identity(source))}
        self._force = force

    def check(self, *paths: Path) -> None:
        """Raise ConfigError if one of these files may not be written. To be called before the work."""
        for path in paths:
            if problem := self.problem(path):
                raise ConfigError(f"{path}: {problem}")

    def problem(self, path: Path) -> str | None:
        """Return the reason why a file may not be written, or None."""
        if not os.path.lexists(path) or _is_device(path):
            return None
        if _identity(path) in self._sources:
            return "is a source of this command, which is never replaced; name another file or folder"
        if path.is_dir():
            return "is a folder; name another file, or remove it"
        if self._force or is_result(path):
            return None
        return "is in the way: not written by tsm-dali, or changed since; --force replaces it, or name another place"

    def write(self, texts: Mapping[Path, str], errors: str = "surrogateescape") -> None:
        """Write text files in UTF-8, or none of them if one may not be written. Raises ConfigError.

        A file that has the same content already stays as it is.
        """
        contents = {path: text.encode("utf-8", errors) for path, text in texts.items()}
        new = {path: content for path, content in contents.items() if _sha256(path) != _digest(content)}
        self.check(*new)
        for path, content in new.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.replacing(path, "wb") as file:
                file.write(content)

    @contextmanager
    def replacing(self, path: Path, mode: str = "w", **text: str) -> Iterator[IO]:
        """Open a file that replaces `path` when the block ends without an error. Raises ConfigError.

        `text` may have the `encoding`, `errors` and `newline` that `open` takes.
        """
        self.check(path)
        if _is_device(path):
            with path.open(mode, **text) as file:
                yield file
            return
        with temporary_file(path.parent, mode, **text) as (temporary, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            self.place(temporary, path)

    def place(self, made: Path, path: Path) -> None:
        """Move a finished file to `path`. Raises ConfigError."""
        sha256 = _sha256(made)
        if _sha256(path) == sha256:  # also if it is the user's: its content is the result
            made.unlink()
            return
        self.check(path)
        _record(path, sha256)
        os.replace(made, path)

    @contextmanager
    def growing(self, path: Path, **text: str) -> Iterator[IO]:
        """Open a new text file at `path` that others can read while it is written. Raises ConfigError."""
        self.check(path)
        if _is_device(path):
            with path.open("w", **text) as file:
                yield file
            return
        with temporary_file(path.parent, "w", **text) as (temporary, file):
            os.replace(temporary, path)
            try:
                yield file
            finally:
                with suppress(OSError):
                    file.flush()
                    if _identity(path) == _identity(file.fileno()):
                        _record(path, _sha256(path))


def is_result(path: Path) -> bool:
    """Tell whether a file is a result of this project as it was written."""
    names = [entry.get("sha256") for entry in _entries(path.parent) if entry.get("name") == path.name]
    return bool(names) and _sha256(path) in names


def _entries(folder: Path) -> Iterator[dict]:
    """Yield the entries of a folder's record; none if there is no record."""
    record = folder / RECORD
    entries = read_lines(record) if _is_plain(record) else iter(())
    if next(entries, {}) == {"about": _TITLE}:
        yield from entries


def _record(path: Path, sha256: str) -> None:
    """Add a file to the record of its folder, before it is there: so it is known whenever a kill comes."""
    record = path.parent / RECORD
    line = json.dumps({"name": path.name, "sha256": sha256}) + "\n"
    if not os.path.lexists(record):
        with temporary_file(record.parent, "w", encoding="utf-8") as (temporary, file):
            file.write(json.dumps({"about": _TITLE}) + "\n" + line)
            file.flush()
            os.replace(temporary, record)
    elif _is_plain(record) and next(read_lines(record), None) == {"about": _TITLE} and os.stat(record).st_nlink == 1:
        end_last_line(record)
        with record.open("a", encoding="utf-8") as file:
            file.write(line)


def _identity(file: str | os.PathLike | int) -> tuple[int, int] | None:
    """Return what identifies a file under all its names, or None if there is none."""
    with suppress(OSError, ValueError):
        status = os.stat(file)
        return status.st_dev, status.st_ino
    return None


def _is_plain(path: Path) -> bool:
    """Tell whether a path is a regular file and no link."""
    with suppress(OSError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def _is_device(path: Path) -> bool:
    """Tell whether a path is written as a stream, such as /dev/null or a pipe."""
    with suppress(OSError):
        mode = os.stat(path).st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or os.path.abspath(path).startswith("/dev/")
    return False


def _sha256(path: Path) -> str | None:
    """Hash a regular file; None for anything else."""
    if not _is_plain(path):
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
