"""What train.py and eval.py share: how a program ends when it cannot go on."""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Callable

from configs import ConfigError
from dali_pipes import DataError
from engine.distributed import PeerFailed
from models import CheckpointError

MENDABLE = (ConfigError, DataError, CheckpointError, FloatingPointError)


def run(name: str, work: Callable[[], None]) -> int:
    """The exit code of `work`: 0, or 2 after one line on stderr where a person can mend what is wrong.

    A traceback is for our own mistakes. `kill -USR2` prints where every thread is.
    """
    faulthandler.register(signal.SIGUSR2)
    try:
        work()
    except PeerFailed:  # the rank that failed has printed its line
        return 2
    except MENDABLE as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0
