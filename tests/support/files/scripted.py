"""A probe that acts as its files say, for tests of the scan. It appends each path to the file named by PROBE_LOG."""

import builtins
import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from dali_pipes.errors import DataError, Inaccessible
from dali_pipes.scan import build, journal
from dali_pipes.scan.catalog import Entry
from dali_pipes.scan.probe import Found
from dali_pipes.video.frame_folders import probe_folder
from dali_pipes.video.packet_table import KEYFRAME, PACKET, Video


@contextmanager
def scanning() -> Iterator[None]:
    """Scan video files with `probe` below instead of the real one."""
    with mock.patch.object(build, "probe_path", probe):
        yield


def probe(path: str, check: str, *of_folder) -> Found:
    """Return a video with as many frames as the file's first word says, or do what the word says."""
    if of_folder:
        return Found(probe_folder(path, check, *of_folder), check)
    with open(os.environ["PROBE_LOG"], "a") as log:
        log.write(f"{path}\n")
    word, *more = Path(path).read_text().split()
    if word == "bad":
        raise DataError(path, "scripted to be bad")
    if word == "refused" and "PROBE_ALLOWED" not in os.environ:
        raise Inaccessible(path, "cannot be read (scripted)")
    word = os.environ["PROBE_ALLOWED"] if word == "refused" else word
    if word == "mistake":
        raise getattr(builtins, more[0])("nobody expected this")
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    while word == "hang":
        pass
    time.sleep(float(more[0]) if more else 0)
    status = os.stat(path)
    return Found(video(path, int(word), status.st_size, status.st_mtime_ns), check)


def die_at_result(count: int) -> None:
    """Let this process store each result of a scan at once, and kill it after so many."""
    add, added = journal.Journal.add, itertools.count(1)

    def add_or_die(self: journal.Journal, key: str, entry: Entry) -> None:
        add(self, key, entry)
        if next(added) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    journal.SECONDS_AT_RISK, journal.Journal.add = -1, add_or_die


def video(path: str, frames: int, size: int, mtime_ns: int) -> Video:
    """Return a video with a keyframe every four frames."""
    packets = np.zeros(frames, PACKET)
    packets["size"] = frames
    packets["order"] = np.arange(frames)
    packets["flags"][::4] = KEYFRAME
    return Video(path, 340, 256, frames, 25.0, "h264", "ranged", b"stsd", size, mtime_ns, packets)
