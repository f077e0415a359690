"""`ByteSource`, the bytes of one video, read by ranges; implementations for files and members of tar shards."""

from __future__ import annotations

import io
import os
import stat
from typing import BinaryIO, Protocol

from dali_pipes.errors import DataError, Inaccessible

_BLOCK = 1 << 20  # bytes per read of a file object


class ByteSource(Protocol):
    """The interface to the bytes of one video."""

    path: str
    start: int  # offset in its shard; 0 for a separate file
    size: int  # bytes
    stamp: int  # changes with the content: the modification time of a file in ns

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`; fewer at the end of the source, or if one call cannot read more."""

    def file_object(self) -> BinaryIO | None:
        """Return the source as a seekable file object; None if FFmpeg shall open the file by its name."""


class LocalFile:
    """A regular file. Raises DataError if it does not exist or is empty; pipes and devices are never opened."""

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
    """Return the status of a file. Raises DataError if it is not a non-empty regular file."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise Inaccessible(path, error.strerror) from error
    except ValueError as error:
        raise DataError(path, "no file can have such a name") from error  # the name contains a zero byte
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
    """A source as a file object for FFmpeg and `tarfile`."""

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
