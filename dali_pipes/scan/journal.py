"""`Journal`: the results of an unfinished scan, on disk, so that a killed scan can continue.

It is an SQLite file next to the catalogue. Only the scan with the lock uses it, and removes it at the end.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import numpy as np

from dali_pipes.scan.catalog import MAGIC, Entry
from dali_pipes.video.packet_table import PACKET, Video

SECONDS_AT_RISK = 1.0  # seconds between commits: the most work that a kill can lose
_TABLE = f"found_{MAGIC.decode()}"  # results of another version are ignored
_KEY = "path BLOB PRIMARY KEY, seen_size, seen_mtime_ns, checked, reader"
_FOUND = (
    "reason, width, height, frames, fps, codec, access, description, size, mtime_ns, packets, orientation, start_byte, "
    "tracks"
)


class Journal:
    """Entries by key: the path of a file; for a folder of frames also the arguments of its scan.

    An entry is valid only for the same size, time and reader version, and a check that is not more thorough.
    """

    def __init__(self, file: Path, reader: str):
        self.file = file
        self.reader = reader
        try:
            self._open()
        except sqlite3.OperationalError:  # the disk is full or read-only: the caller reports it
            raise
        except sqlite3.DatabaseError:  # damaged: only work is lost
            self.remove()
            self._open()

    def _open(self) -> None:
        self._database = sqlite3.connect(self.file)
        self._database.execute("PRAGMA synchronous = OFF")  # survives a kill, but maybe not a power failure
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} ({_KEY}, {_FOUND})")
        self._committed = time.monotonic()

    def add(self, key: str, entry: Entry) -> None:
        """Store the result for a key."""
        values = [os.fsencode(key), entry.size, entry.mtime_ns, entry.check, self.reader, *_columns(entry.outcome)]
        self._database.execute(f"INSERT OR REPLACE INTO {_TABLE} VALUES ({', '.join('?' * len(values))})", values)
        if time.monotonic() - self._committed > SECONDS_AT_RISK:
            self._database.commit()
            self._committed = time.monotonic()

    def find(self, key: str, size: int, mtime_ns: int, check: int) -> Entry | None:
        """Return the result stored for a key, if the file has not changed. A video's `path` is the key."""
        row = self._database.execute(
            f"SELECT checked, {_FOUND} FROM {_TABLE} "
            "WHERE path = ? AND seen_size = ? AND seen_mtime_ns = ? AND checked >= ? AND reader = ?",
            (os.fsencode(key), size, mtime_ns, check, self.reader),
        ).fetchone()
        if row is None:
            return None
        checked, reason, *shape, packets, turn, start_byte, tracks = row
        if reason:
            return Entry(size, mtime_ns, checked, reason)
        video = Video(key, *shape, np.frombuffer(packets, PACKET), turn, start_byte, tracks)
        return Entry(size, mtime_ns, checked, video)

    def close(self) -> None:
        """Commit and close; the next scan finds the results."""
        self._database.commit()
        self._database.close()

    def remove(self) -> None:
        """Delete the file, after the catalogue was written."""
        self._database.close()
        self.file.unlink(missing_ok=True)
        self.file.with_name(f"{self.file.name}-journal").unlink(missing_ok=True)


def _columns(outcome: Video | str) -> list:
    """Return a video or an error text as the columns of _FOUND."""
    if isinstance(outcome, str):
        return [outcome] + [None] * _FOUND.count(",")
    video = outcome
    shape = [video.width, video.height, video.frames, video.fps, video.codec, video.access, video.description]
    more = [video.orientation, video.start_byte, video.tracks]
    return [None, *shape, video.size, video.mtime_ns, video.packets.tobytes(), *more]
