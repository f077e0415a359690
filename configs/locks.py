"""Lock open files, on file systems with and without locks. All packages use it."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import IO

# EBADF: NFS 4 locks only files that are open for writing
UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF)
"""Errors of file systems without locks."""


def lock_open_file(file: IO | int) -> bool | None:
    """Lock an open file or folder until it is closed.

    Returns False if another process holds the lock, None if the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return None


def open_to_lock(path: Path) -> int:
    """Open an existing file or folder; return its descriptor. NFS 4 locks only files that are open for writing."""
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except IsADirectoryError:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
