"""A cache folder of whole videos from stores, which are then read as files.

Each dataset has a folder, named by its root, and each video a file, named by its state at the scan. Processes that use
a dataset hold a shared lock on its folder, so that no other process removes it. When the cache is full, unused datasets
are removed. If all are in use, further videos are read by ranges: replacing videos would cost more requests than it
saves, because every epoch reads all of them in another order.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from dali_pipes.errors import DataError
from dali_pipes.storage.fetch import Fetched, RangeRequest

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_MARK = ".tsm-dali-set"  # marks a folder as a dataset; its users lock this file
_USED = ".tsm-dali-bytes"  # a file with the number of bytes of all datasets
_UNFINISHED = ".tmp-"
_OURS = re.compile(rf"[0-9a-f]{{30}}|{re.escape(_UNFINISHED)}[0-9a-f]{{16}}")  # names of a dataset's files
logger = logging.getLogger(__name__)


CHANGED_NS = 10**18
"""Time of the last change that each file has, so that a cut knows it without a look at the file."""


class CachedVideo(NamedTuple):
    """A video in a file of the cache."""

    path: str
    cache: VideoCache

    def lost(self) -> None:
        """Tell the cache that the file is unusable."""
        self.cache.discard(self.path)


class VideoCache:
    """The cached videos of one dataset, for the lifetime of the process."""

    def __init__(self, folder: str, most_bytes: int, root: str):
        """Open the cache at `folder` for the videos below the URL `root`. Raises DataError if that is not possible."""
        self._folder, self._most = Path(folder), most_bytes
        self._set = self._folder / hashlib.sha256(root.encode()).hexdigest()[:16]
        self._open = True
        self._known: set[str] = set()  # paths of files that exist
        self._coming: set[str] = set()  # paths that this process will write
        try:
            self._lock = self._in_use()
            with self._counted() as count:
                _write(count, sum(map(_size, self._sets())))
        except OSError as error:
            raise DataError(
                folder, f"{error.strerror}; set data.cache_dir to a folder that can be written to"
            ) from error

    def find(self, wanted: RangeRequest) -> CachedVideo | None:
        """Return the file of a video, even if this process has yet to write it; None if there is none."""
        path = self._path(wanted)
        if path not in self._known and path not in self._coming:  # checked only once per file
            try:
                if os.stat(path).st_size != wanted.size:
                    return None
            except OSError:
                return None
            self._known.add(path)
        return CachedVideo(path, self)

    def discard(self, path: str) -> None:
        """Forget an unusable file, so that it is checked again."""
        self._known.discard(path)

    def reserve(self, wanted: RangeRequest) -> bool:
        """Reserve space for a video; return False if the cache is full. Then call `store` or `cancel_reservations`.

        After the first refusal, every reservation is refused.
        """
        if self._open:
            with self._counted() as count:
                used = _number(count) + wanted.size
                if used > self._most:
                    used -= self._remove_unused(used - self._most)
                    self._open = used <= self._most
                if self._open:
                    _write(count, used)
            if not self._open:
                logger.info(f"{self._folder}: full ({self._most / 1e9:g} GB); the other videos are read by ranges")
        if self._open:
            self._coming.add(self._path(wanted))
        return self._open

    def cancel_reservations(self, videos: Iterable[RangeRequest]) -> None:
        """Cancel the reservations of these videos."""
        self._coming.difference_update(map(self._path, videos))

    def store(self, wanted: RangeRequest, content: Fetched) -> CachedVideo | None:
        """Write a whole video to its file; return it, or None if that is not possible."""
        path = Path(self._path(wanted))
        unfinished = path.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(exist_ok=True)
            with unfinished.open("xb") as file:
                file.write(content.read(wanted.start_byte, wanted.size))
            os.utime(unfinished, ns=(CHANGED_NS, CHANGED_NS))
            unfinished.replace(path)
            self._known.add(str(path))
            return CachedVideo(str(path), self)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            if self._open:
                logger.warning(f"{self._folder}: {error.strerror}; the other videos are read by ranges")
            self._open = False
            if error.errno not in _FULL:
                raise
            return None

    def _path(self, wanted: RangeRequest) -> str:
        version = f"{wanted.start_byte} {wanted.size} {wanted.stamp} {wanted.path}"
        name = hashlib.sha256(version.encode("utf-8", "surrogateescape")).hexdigest()
        return f"{self._set}{os.sep}{name[:2]}{os.sep}{name[2:32]}"

    def _in_use(self) -> IO:
        """Lock the dataset against removal. If no other process uses it, remove leftovers of killed processes."""
        while True:
            self._set.mkdir(parents=True, exist_ok=True)
            lock = (self._set / _MARK).open("a")
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for path in _files(self._set):
                    if path.name.startswith(_UNFINISHED):
                        path.unlink()
            fcntl.flock(lock, fcntl.LOCK_SH)
            if os.fstat(lock.fileno()).st_nlink:  # not removed by another process meanwhile
                return lock
            lock.close()

    def _sets(self) -> list[Path]:
        """Return the dataset folders of the cache, the least recently changed first."""
        marked = [path for path in self._folder.iterdir() if (path / _MARK).is_file() and not path.is_symlink()]
        return sorted(marked, key=os.path.getmtime)

    @contextmanager
    def _counted(self) -> Iterator[IO]:
        """Open the file with the number of bytes of all datasets, for one process at a time."""
        with (self._folder / _USED).open("a+") as count:
            fcntl.flock(count, fcntl.LOCK_EX)
            yield count

    def _remove_unused(self, needed: int) -> int:
        """Remove unused datasets until `needed` bytes are free; return the number of removed bytes."""
        freed = 0
        for other in self._sets():
            if freed >= needed or other == self._set:
                continue
            with (other / _MARK).open("a") as lock, suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                freed += _size(other)
                _remove(other)
        return freed


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a dataset that a cache wrote; a user's files in its folder have other names."""
    return (path for path in folder.glob("[0-9a-f][0-9a-f]/*") if _OURS.fullmatch(path.name))


def _size(folder: Path) -> int:
    """Return the total bytes of a dataset's files."""
    return sum(path.stat().st_size for path in _files(folder) if path.exists())


def _remove(folder: Path) -> None:
    """Remove a dataset; folders with other files are kept."""
    with suppress(OSError):
        for path in [*_files(folder)]:
            path.unlink()
        for part in [*folder.glob("[0-9a-f][0-9a-f]")]:
            with suppress(OSError):
                part.rmdir()
        (folder / _MARK).unlink()
        folder.rmdir()


def _number(count: IO) -> int:
    count.seek(0)
    text = count.read()
    return int(text) if text.isdigit() else 0


def _write(count: IO, number: int) -> None:
    count.seek(0)
    count.truncate()
    count.write(str(number))
