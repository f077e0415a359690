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
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from configs import ConfigError
from engine.files import end_last_line, ignores_case, read_lines, temporary_file, temporary_path

RECORD = ".tsm-dali.jsonl"
LARGE = 2**24  # bytes of a file whose size and time stand for its content, which would take long to hash
MOST_ENTRIES = 1000  # in a record; then older ones of the same files are dropped
_SOURCE = "is a source of this command, which is never replaced; name another file or folder"
_STREAMS = ("/dev", "/dev/fd", "/proc/self/fd")  # where a regular file may be this process's standard output
_TEXT = {"encoding": "utf-8", "errors": "surrogateescape"}  # paths in it need not be UTF-8
_recording = threading.Lock()
_TITLE = "files that tsm-dali wrote into this folder; it replaces those that have not changed since"


def add_force_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--force`."""
    parser.add_argument("--force", action="store_true", help="replace files in the way that this project did not write")


class Outputs:
    """The files that one command writes.

    `sources` are the files that the command reads; links and other spellings of them count. `force` allows to replace
    other files that are in the way; None where the command has no `--force`.
    """

    def __init__(self, sources: Iterable[str | os.PathLike] = (), force: bool | None = None):
        self._sources = _identities(sources)
        self._more_sources: list[Iterable[str | os.PathLike]] = []
        self._force = force
        self._growing: set[tuple[int, int]] = set()  # files that `append` has checked

    def check(self, *paths: Path) -> None:
        """Raise ConfigError if one of these files may not be written. To be called before the work."""
        for path in paths:
            if problem := "named twice" if paths.count(path) > 1 else self.problem(path):
                raise ConfigError(f"{path}: {problem}")
        names = Counter((path.parent, path.name.casefold()) for path in paths)
        for path in paths:
            if names[path.parent, path.name.casefold()] > 1:
                with temporary_path(path.parent) as probe:
                    if ignores_case(probe):
                        raise ConfigError(f"{path}: named twice, as its disk ignores the case of letters")

    def add_sources(self, sources: Iterable[str | os.PathLike]) -> None:
        """Count more files as sources, maybe all videos of a list: none is looked at before a file is in the way."""
        self._more_sources.append(sources)

    def refuse_source(self, path: Path) -> None:
        """Raise ConfigError if a file is a source of the command."""
        if self._is_source(path):
            raise ConfigError(f"{path}: {_SOURCE}")

    def _is_source(self, path: Path) -> bool:
        if not os.path.lexists(path):
            return False
        while self._more_sources:
            self._sources |= _identities(self._more_sources.pop())
        return _identity(path) in self._sources

    def problem(self, path: Path) -> str | None:
        """Return the reason why a file may not be written, or None."""
        if not os.path.lexists(path) or _is_device(path):
            return None
        if self._is_source(path):
            return _SOURCE
        if path.is_dir():
            return "is a folder; name another file, or remove it"
        if self._force or is_result(path):
            return None
        cause = "not written by tsm-dali, changed since, or of a version that kept no record"
        cure = "move it" if self._force is None else "--force replaces it"
        return f"is in the way: {cause}; {cure}, or name another place"

    def write(self, texts: Mapping[Path, str], errors: str = "surrogateescape") -> None:
        """Write text files in UTF-8, or none of them if one may not be written. Raises ConfigError.

        A file that has the same content already stays as it is.
        """
        contents = {path: text.encode("utf-8", errors) for path, text in texts.items()}
        new = {path: content for path, content in contents.items() if _sha256(path) != _digest(content)}
        self.check(*new)
        for path, content in new.items():
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

    def place(self, made: Path, path: Path, sha256: str | None = None) -> None:
        """Move a finished file to `path`; `sha256` is its hash, if known. Raises ConfigError."""
        sha256 = sha256 or _sha256(made)
        if _sha256(path) == sha256:  # also if it is the user's: its content is the result
            made.unlink()
            return
        self.check(path)
        _record(path, _entry(made, sha256))
        made.replace(path)

    def append(self, path: Path, line: str) -> None:
        """Add a line to a text file, which is made if there is none. Raises ConfigError if it is not a result."""
        if _is_device(path):
            with path.open("a", **_TEXT) as file:
                file.write(f"{line}\n")
        elif not os.path.lexists(path):
            with temporary_file(path.parent, **_TEXT) as (made, file):
                file.write(f"{line}\n")
                file.flush()
                _record(path, _entry(made, _sha256(made)) | {"grows": True})
                made.replace(path)
        else:
            if (identity := _identity(path)) not in self._growing:
                self.check(path)
                end_last_line(path)
                self._growing.add(identity)
            with path.open("a", **_TEXT) as file:
                file.write(f"{line}\n")

    def rewrite(self, path: Path, text: str) -> None:
        """Replace the content of a file that `append` adds to. Raises ConfigError."""
        self.write({path: text})
        record_growing(path)

    def remove(self, *paths: Path) -> None:
        """Remove those of these files that are results. Raises ConfigError if one is a source of the command."""
        found = list(filter(is_result, paths))
        for path in found:
            if self._is_source(path):
                raise ConfigError(f"{path}: is a source of this command, which is never removed; keep a copy elsewhere")
        for path in found:
            path.unlink()
        for folder in {path.parent for path in found}:
            if not any(is_result(folder / str(entry.get("name"))) for entry in _entries(folder)):
                (folder / RECORD).unlink()

    @contextmanager
    def growing(self, path: Path, **text: str) -> Iterator[IO]:
        """Open a new text file at `path` that others can read while it is written. Raises ConfigError."""
        self.check(path)
        if _is_device(path):
            file = path.open("w", **text)
        else:
            with temporary_path(path.parent) as temporary:
                file = temporary.open("w", **text)
                temporary.replace(path)
        try:
            yield file
        finally:
            with suppress(OSError):  # of a full disk, which writing has met before
                file.flush()
            if _is_plain(path) and _identity(path) == _identity(file.fileno()):
                _record(path, _entry(path, _sha256(path)))
            with suppress(OSError):
                file.close()


def is_result(path: Path) -> bool:
    """Tell whether a file is a result of this project as it was written, or has since grown by its own appends."""
    entries = [entry for entry in _entries(path.parent) if entry.get("name") == path.name]
    if not entries or not _is_plain(path):
        return False
    status = os.stat(path)
    if status.st_size >= LARGE and any(_stamp(entry) == [status.st_size, status.st_mtime_ns] for entry in entries):
        return True
    sizes = {entry.get("bytes") for entry in entries if entry.get("grows")}
    heads = {_sha256(path, size) for size in sizes if isinstance(size, int) and status.st_size >= size}
    return any(entry.get("sha256") in (heads if entry.get("grows") else {_sha256(path)}) for entry in entries)


def refuse_inside(folder: Path, sources: Iterable[str | os.PathLike | None], *, strictly: bool = False) -> None:
    """Raise ConfigError if results in `folder` would lie in a source folder, and be read with it from then on.

    A sub-folder would count as a class, and a video as one of the user's. `strictly`: the source folder itself may hold
    results that are neither.
    """
    place = folder.resolve()
    for source in map(Path, filter(None, sources)):
        inside = place.parent if strictly else place
        if source.is_dir() and inside.is_relative_to(source.resolve()):
            raise ConfigError(
                f"{folder}: lies in {source}, a source of this command, which would be read with the results the next "
                "time; name a folder outside of it"
            )


def is_recorded(path: Path) -> bool:
    """Tell whether a file of this name was written by this project, changed since or not."""
    return any(entry.get("name") == path.name for entry in _entries(path.parent))


def record_growing(path: Path) -> None:
    """Record a file that another library appends to; it must hold a first part that no other file begins with."""
    if _is_plain(path):
        _record(path, _entry(path, _sha256(path)) | {"grows": True})


def _entries(folder: Path) -> Iterator[dict]:
    """Yield the entries of a folder's record; none if there is no record."""
    record = folder / RECORD
    entries = read_lines(record) if _is_plain(record) else iter(())
    if next(entries, {}) == {"about": _TITLE}:
        yield from entries


def _entry(made: Path, sha256: str) -> dict:
    status = os.stat(made)
    return {"sha256": sha256, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _stamp(entry: dict) -> list:
    return [entry.get("bytes"), entry.get("mtime_ns")]


def _record(path: Path, entry: dict) -> None:
    """Add a file to the record of its folder, before it is there: so it is known whenever a kill comes."""
    with _recording:  # threads write status, checkpoints and metrics
        _add_to_record(path.parent / RECORD, {"name": path.name, **entry})


def _add_to_record(record: Path, entry: dict) -> None:
    known = list(_entries(record.parent))
    if not os.path.lexists(record) or len(known) >= MOST_ENTRIES:
        with temporary_file(record.parent, "w", encoding="utf-8") as (temporary, file):
            lines = [{"about": _TITLE}, *_newest(known), entry]
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            temporary.replace(record)
    elif _is_plain(record) and next(read_lines(record), None) == {"about": _TITLE} and os.stat(record).st_nlink == 1:
        end_last_line(record)
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _newest(entries: list[dict]) -> list[dict]:
    """Return the last two entries of each file: after a kill it is as either of them."""
    newest: dict[object, list[dict]] = {}
    for entry in entries:
        newest[entry.get("name")] = [*newest.get(entry.get("name"), []), entry][-2:]
    return [entry for pair in newest.values() for entry in pair]


def _identities(files: Iterable[str | os.PathLike]) -> set[tuple[int, int]]:
    """Return what identifies those of these files that exist."""
    return {identity for file in files if file and (identity := _identity(file))}


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
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or os.path.dirname(os.path.abspath(path)) in _STREAMS
    return False


def _sha256(path: Path, size: int | None = None) -> str | None:
    """Hash a regular file, or its first `size` bytes; None for anything else."""
    if not _is_plain(path):
        return None
    with path.open("rb") as file:
        return _digest(file.read(size)) if size else hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
