"""Write results: overwrite only files that this project wrote and that have not changed since.

Each folder with results gets a small record, `.tsm-dali.jsonl`, of their names and sha256. Any other file in the way is
an error of one line, unless the user gives `--force`. Inputs of the command are never overwritten. Writes never follow
a link or change a file in place, so other hard links keep its content.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from configs import ConfigError
from configs.cli import descriptor, is_stream
from configs.schema import Data
from dali_pipes.lists.formats.source import split_of
from dali_pipes.lists.listing import videos_of
from engine.files import end_last_line, ignores_case, named, temporary_file, temporary_path
from engine.output_record import (
    digest,
    is_plain,
    is_result,
    record,
    record_growing,
    remove_unused_record,
    sha256_of,
)

_SOURCE = "is a source of this command, which is never replaced; name another file or folder"
_TEXT = {"encoding": "utf-8", "errors": "surrogateescape"}  # paths in it need not be UTF-8


def add_force_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--force`."""
    parser.add_argument("--force", action="store_true", help="overwrite files that this project did not write")


class Outputs:
    """The files that one command writes.

    `sources` are what the command reads: files, maybe by links or other spellings, and lists, maybe with `:split`.
    `force` allows overwriting other files; None if the command has no `--force`.
    """

    def __init__(self, sources: Iterable[str | os.PathLike | None] = (), force: bool | None = None):
        self._sources = _identities(sources)
        self._videos: list[Iterable[str]] = []  # of lists that have not been read yet
        self._force = force
        self._growing: set[tuple[int, int]] = set()  # files that `append_line` has checked

    def check(self, *files: Path | None) -> None:
        """Raise ConfigError if one of these files must not be written. Call it before the work."""
        paths = [path for path in files if path]
        for path in paths:
            if problem := "named twice" if paths.count(path) > 1 else self.problem(path):
                raise ConfigError(f"{path}: {problem}")
        names = Counter((path.parent, path.name.casefold()) for path in paths)
        for path in paths:
            if names[path.parent, path.name.casefold()] > 1:
                with temporary_path(path.parent) as probe:
                    if ignores_case(probe):
                        raise ConfigError(f"{path}: named twice, as its disk ignores the case of letters")

    def add_lists(self, data: Data, class_names: Sequence[str] = ()) -> None:
        """Add the lists, class names and videos of `data` to the sources; lists are only read if a file is in the way.

        `class_names` are those of a network, as for `read_list`.
        """
        self._sources |= _identities([data.train, data.val, data.test, data.class_names])
        self._videos.append(videos_of(data, class_names))

    def refuse_source(self, path: Path) -> None:
        """Raise ConfigError if a file is a source of the command."""
        if self._is_source(path):
            raise ConfigError(f"{path}: {_SOURCE}")

    def _is_source(self, path: Path) -> bool:
        if not os.path.lexists(path):
            return False
        while self._videos:
            self._sources |= _identities(self._videos.pop())
        identity = _identity(path)
        source = self._sources.get(identity) if identity else None
        return source is not None and _identity(source) == identity  # a disk reuses the number of a replaced file

    def problem(self, path: Path) -> str | None:
        """Return the reason why a file must not be written, or None."""
        if not os.path.lexists(path) or is_stream(path):
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
        """Write text files in UTF-8, or none of them if one must not be written. Raises ConfigError.

        A file with the same content is not touched.
        """
        contents = {path: text.encode("utf-8", errors) for path, text in texts.items()}
        new = {path: content for path, content in contents.items() if sha256_of(path) != digest(content)}
        self.check(*new)
        for path, content in new.items():
            with self.replacing(path, "wb") as file:
                file.write(content)

    @contextmanager
    def replacing(self, path: Path, mode: str = "w", **text: str) -> Iterator[IO]:
        """Open a file that replaces `path` when the block ends without an error. Raises ConfigError.

        `text` may have `encoding`, `errors` and `newline`, as for `open`.
        """
        self.check(path)
        if is_stream(path):
            with named(path), _open_stream(path, mode, **text) as file:
                yield file
            return
        with named(path), temporary_file(path.parent, mode, **text) as (temporary, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            self.place(temporary, path)

    def place(self, made: Path, path: Path, sha256: str | None = None) -> None:
        """Move a finished file to `path`; `sha256` is its hash, if known. Raises ConfigError."""
        if is_stream(path):
            raise ConfigError(f"{path}: is a device or a pipe; name a file")
        sha256 = sha256 or sha256_of(made)
        if sha256_of(path) == sha256:  # also a user's file: its content equals the result
            made.unlink()
            return
        self.check(path)
        record(made, path, sha256)
        made.replace(path)

    def append_line(self, path: Path, line: str) -> None:
        """Append a line to a text file, which is created if necessary. Raises ConfigError if it is not a result."""
        if is_stream(path):
            with named(path), _open_stream(path, "a", **_TEXT) as file:
                file.write(f"{line}\n")
        elif not os.path.lexists(path):
            with named(path), temporary_file(path.parent, **_TEXT) as (made, file):
                file.write(f"{line}\n")
                file.flush()
                record(made, path, grows=True)
                made.replace(path)
        else:
            if (identity := _identity(path)) not in self._growing:
                self.check(path)
                end_last_line(path)
                self._growing.add(identity)
            with named(path), path.open("a", **_TEXT) as file:
                file.write(f"{line}\n")

    def rewrite(self, path: Path, text: str) -> None:
        """Replace the content of a file of `append_line`. Raises ConfigError."""
        self.write({path: text})
        record_growing(path)

    def remove(self, *paths: Path) -> None:
        """Remove these files if they are results. Raises ConfigError if one is a source of the command."""
        found = list(filter(is_result, paths))
        for path in found:
            if self._is_source(path):
                raise ConfigError(f"{path}: is a source of this command, which is never removed; keep a copy elsewhere")
        for path in found:
            path.unlink()
        for folder in {path.parent for path in found}:
            remove_unused_record(folder)

    @contextmanager
    def growing(self, path: Path, **text: str) -> Iterator[IO]:
        """Open a new text file at `path`, readable while it is written. Raises ConfigError."""
        self.check(path)
        if is_stream(path):
            file = _open_stream(path, "w", **text)
        else:
            with temporary_path(path.parent) as temporary:
                file = temporary.open("w", **text)
                temporary.replace(path)
        try:
            yield file
        finally:
            with suppress(OSError):  # an error of a full disk, which the write has already raised
                file.flush()
            if is_plain(path) and _identity(path) == _identity(file.fileno()):
                record(path, path)
            with suppress(OSError):
                file.close()


def refuse_inside(folder: Path, sources: Iterable[str | os.PathLike | None], *, strictly: bool = False) -> None:
    """Raise ConfigError if `folder` lies in a source folder, so that results in it would be read as input later.

    A sub-folder would count as a class, and a video as one of the user's. `strictly`: results directly in the source
    folder are allowed, if they are neither.
    """
    place = folder.resolve()
    for source in (Path(split_of(os.fspath(source))[0]) for source in sources if source):
        inside = place.parent if strictly else place
        if source.is_dir() and inside.is_relative_to(source.resolve()):
            raise ConfigError(
                f"{folder}: lies in {source}, a source of this command, which would be read with the results the next "
                "time; name a folder outside of it"
            )


def _identities(sources: Iterable[str | os.PathLike | None]) -> dict[tuple[int, int], str]:
    """Return the existing sources by their identities; that of a list with `:split` is its file's."""
    files = (split_of(os.fspath(source))[0] for source in sources if source)
    return {identity: file for file in files if (identity := _identity(file))}


def _identity(file: str | os.PathLike | int) -> tuple[int, int] | None:
    """Return (device, inode) of a file, which all its names share, or None if it does not exist."""
    with suppress(OSError, ValueError):
        status = os.stat(file)
        return status.st_dev, status.st_ino
    return None


def _open_stream(path: Path, mode: str, **text: str) -> IO:
    """Open a device or a pipe. An open file of this process keeps its position: by its name, the file that the output
    is redirected to would be emptied.
    """
    number = descriptor(path)
    return path.open(mode, **text) if number is None else os.fdopen(os.dup(number), mode, **text)
