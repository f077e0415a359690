"""`ByteSource`, the bytes of one video, read by ranges: a file, or a member of a tar shard."""

from __future__ import annotations

import io
import os
import stat
from typing import BinaryIO, Protocol

from dali_pipes.errors import DataError

_BLOCK = 1 << 20  # bytes that a file object reads at once


class ByteSource(Protocol):
    """The bytes of one video, as they are now."""

    path: str
    start: int  # the byte of its shard at which it begins; 0: it is a file for itself
    size: int  # bytes
    stamp: int  # another number if the content was replaced: the time of a file's last change in ns

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset` on, fewer only at the end of the source or of one call's reach."""

    def file_object(self) -> BinaryIO | None:
        """Return the source as a seekable file; None if it is a file that is opened by its name."""


class LocalFile:
    """A regular file. Raises DataError if there is none, or it is empty; pipes and devices are never opened."""

    start = 0

    def __init__(self, path: str):
        status = _regular_file(path)
        self.path, self.size, self.stamp = path, status.st_size, status.st_mtime_ns
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.descriptor, size, offset)

    def file_object(self) -> BinaryIO | None:
        return None

    def close(self) -> None:
        os.close(self.descriptor)


def _regular_file(path: str) -> os.stat_result:
    """Return the status of a file. Raises DataError if it is none that can be read as a video."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(path, error.strerror) from error
    except ValueError as error:
        raise DataError(path, "no file can have such a name") from error  # it holds a zero byte
    if not stat.S_ISREG(status.st_mode):
        raise DataError(path, "is not a file")
    if status.st_size == 0:
        raise DataError(path, "is empty (0 bytes)")
    return status


class Part:
    """A range of another source: a member of a shard."""

    def __init__(self, path: str, whole: ByteSource, start: int, size: int, stamp: int):
        self.path, self.start, self.size, self.stamp = path, start, size, stamp
        self._whole = whole

    def read(self, offset: int, size: int) -> bytes:
        return self._whole.read(self.start + offset, max(0, min(size, self.size - offset)))

    def file_object(self) -> BinaryIO | None:
        return io.BufferedReader(SourceFile(self), _BLOCK)


class SourceFile(io.RawIOBase):
    """A source as a file that FFmpeg and `tarfile` can read."""

    def __init__(self, source: ByteSource):
        self.name = source.path  # FFmpeg uses the suffix to recognise raw streams
        self._source, self._at = source, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._source.size}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        data = self._source.read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
