"""Call functions when the program ends, before it waits for the threads of its pools; `atexit` calls them after
that.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - registers that wait: what is registered after it is called before it
import threading

program_ends = threading.Event()
threading._register_atexit(program_ends.set)
