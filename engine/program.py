"""Run a program: its log, its exit code, and one line for errors that the user can fix."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from typing import TextIO

from configs import ConfigError
from dali_pipes import DataError
from dali_pipes.storage.faults import StorageFault
from engine import exits, logs
from engine.watch import RETRY

LESS_MEMORY = (
    "train.accumulate=2 takes clips through the network in two parts (more for smaller ones), in training and in "
    "evaluation, with the same gradient; train.batch makes all of it smaller"
)


def run(
    name: str,
    work: Callable[[], int | None],
    log_to: TextIO | None = None,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Run a program and return its exit code: the result of `work` (None is 0), or 2 with one line on stderr for an
    error that the user can fix.

    `check` raises such errors before torch is imported, which takes seconds. Only bugs end in a traceback, not files
    that cannot be created or read. Ctrl-C gives 130, as in shells. `kill -USR2` prints the stack of every thread. Log
    lines go to `log_to`, or to stderr.
    """
    faulthandler.register(signal.SIGUSR2)
    logs.start_logging(log_to or sys.stderr)
    with logs.telling_of_silence():
        return exits.run_to_exit_code(name, lambda: _exit_code(name, work, check))


def _exit_code(name: str, work: Callable[[], int | None], check: Callable[[], None]) -> int:
    """Run `check` and `work`, and map their exceptions to an exit code."""
    try:
        check()
    except (ConfigError, DataError) as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # the ranks of a host see the same files
            print(f"{name}: {error}", file=sys.stderr)
        return 2
    import torch  # takes seconds; logging has been set up by now

    from engine.distributed import PeerFailed, PeerLost
    from models import CheckpointError

    try:
        return work() or 0
    except PeerFailed:  # the failed rank has printed its line
        return 2
    except (ConfigError, DataError, CheckpointError, FloatingPointError, PeerLost) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return RETRY if isinstance(error, PeerLost) else 2
    except StorageFault as error:
        advice = "; start it again with --resume to continue" if error.passes else ""
        print(f"{name}: {error.filename}: {error.strerror}{advice}", file=sys.stderr)
        return RETRY if error.passes else 2
    except torch.OutOfMemoryError as error:
        seen, _, _ = str(error).partition(" Of the allocated memory")  # the rest is about torch's allocator
        print(f"{name}: {seen} {LESS_MEMORY}", file=sys.stderr)
        return 2
