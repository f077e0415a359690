"""The memory that this process occupies."""

import os


def resident_bytes() -> int:
    """Return the bytes of this process that lie in memory (Linux)."""
    with open("/proc/self/statm") as status:
        return int(status.read().split()[1]) * os.sysconf("SC_PAGESIZE")
