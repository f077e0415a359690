"""The memory of this process, and a limit on the files that it writes."""

import os
import resource
from contextlib import contextmanager


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes (Linux)."""
    with open("/proc/self/statm") as status:
        return int(status.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@contextmanager
def limited_file_size(most: int):
    """Limit the size of written files to `most` bytes while the block runs: writes fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
