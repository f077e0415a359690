"""The memory that this process occupies, and a limit to the files that it writes."""

import os
import resource
from contextlib import contextmanager


def resident_bytes() -> int:
    """Return the bytes of this process that lie in memory (Linux)."""
    with open("/proc/self/statm") as status:
        return int(status.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@contextmanager
def little_room(most: int):
    """Let no file grow beyond `most` bytes as long as the block runs: what a full disk does to one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
