"""Tolerate files of a run that cannot be written for a while: warn once per file, and continue training."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from configs import ConfigError

logger = logging.getLogger(__name__)


class DiskFaults:
    """Warns once per file, until it can be written again. Thread-safe."""

    def __init__(self):
        self._failing: set[Path] = set()
        self._lock = threading.Lock()

    @contextmanager
    def tolerated(self, path: Path) -> Iterator[None]:
        """Turn an OSError of the block, which writes `path`, into a warning."""
        try:
            yield
        except (OSError, ConfigError, ImportError) as error:
            with self._lock:
                first = path not in self._failing
                self._failing.add(path)
            if first:
                logger.warning(f"{describe(path, error)}; training continues and tries again")
        else:
            with self._lock:
                self._failing.discard(path)


def describe(path: Path, error: Exception) -> str:
    """Return the reason why a file cannot be written, with the free space of its disk."""
    reason = (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]
    folder = path.absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with suppress(OSError):
        reason += f"; {shutil.disk_usage(folder).free / 2**20:,.1f} MiB free"
    return f"{os.fspath(path)}: cannot be written ({reason})"
