"""Report failures of ranks: tell the other ranks the reason, and replace torch's errors about lost ranks by
sentences.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as dist

from engine.distributed.group import common_watch, rank, world_size
from engine.distributed.joining import PeerFailed, PeerLost
from engine.watch import ANSWER

GLOO_SAYS = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "Timed out waiting")


@contextmanager
def explained() -> Iterator[None]:
    """Report an error in the block to the other ranks; if another rank caused torch's error, name that rank.

    In the second case, raises PeerLost on every rank, with the reason of the failed rank if it could report one.
    """
    try:
        yield
    except PeerFailed as error:
        watch = common_watch()
        raise PeerFailed((watch and watch.reported("failed")) or str(error)) from error
    except Exception as error:
        if not _is_about_peers(error):
            report("failed", f"rank {rank()}: {type(error).__name__}: {error}")
            raise
        reason = failure() or f"lost a rank ({str(error).splitlines()[0]})"
        raise PeerLost(f"{reason}; train.py --resume continues after the last checkpoint") from error


def _is_about_peers(error: Exception) -> bool:
    """Return True for an error of torch that another rank caused."""
    if world_size() == 1:
        return False
    from_gloo = isinstance(error, RuntimeError) and any(words in str(error) for words in GLOO_SAYS)
    return from_gloo or isinstance(error, PeerLost | dist.DistError)


def report(key: str, text: str) -> None:
    """Send a text to the other ranks without waiting for them."""
    if watch := common_watch():
        watch.report(key, text)


def on_report(key: str, call: Callable[[str], None]) -> None:
    """Register `call`: the watch's thread calls it with the text that a rank reports under a key."""
    if watch := common_watch():
        watch.on_report[key] = call


def failure(key: str = "") -> str | None:
    """Return the reason of a failed rank, or a sentence about dead ranks; None if all ranks are alive.

    It takes some seconds to find silent ranks, unless all ranks call this with the same `key` at about the same time.
    """
    if world_size() == 1 or (key and common_watch().all_answer(key)):
        return None
    watch, end = common_watch(), time.monotonic() + ANSWER
    while not (reason := watch.reported("failed")) and time.monotonic() < end:
        time.sleep(0.1)
    dead = [] if reason else watch.silent_ranks()
    sentence = "; ".join(f"rank {lost} died without a message: {watch.last_activity(lost)}" for lost in dead)
    return reason or sentence or None
