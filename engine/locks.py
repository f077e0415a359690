"""File locks that end with their process, on file systems with and without flock."""

from __future__ import annotations

import errno
import logging
import os
import platform
import re
from pathlib import Path
from typing import IO

from configs.locks import lock_open_file

logger = logging.getLogger(__name__)
LOCK = ".tsm-dali.lock"
"""The lock of a folder that a command writes into."""
_HOLDER = re.compile(r"process (\d+) on (.*)")


class InUse(Exception):
    """Another process holds the lock; the message names it."""


def take_lock(path: Path) -> IO[str]:
    """Lock a file (created if necessary) until the returned file is closed or the process ends.

    Raises InUse if another process holds it, OSError if the file cannot be written or belongs to another program.
    Without flock (some NFS, Lustre and FUSE mounts), the file contains its holder, which counts as long as that process
    lives on this machine.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")
    try:
        held = lock_open_file(file)
        holder = file.read().strip()
        if holder and not _HOLDER.fullmatch(holder):
            raise FileExistsError(errno.EEXIST, "in the way: not a lock of tsm-dali", str(path))
        if held is False or (held is None and _lives(holder)):
            raise InUse(holder)
        if held is None:
            logger.warning(f"{path}: this file system has no locks; do not use the folder from two machines at once")
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def _lives(holder: str) -> bool:
    """Return True if a holder is another running process of this machine."""
    found = _HOLDER.fullmatch(holder)
    if not found or found[2] != platform.node() or int(found[1]) == os.getpid():
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
