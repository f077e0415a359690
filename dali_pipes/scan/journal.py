"""What an unfinished scan has found so far, on disk, so that a scan killed at any moment goes on where it was.

An SQLite file beside the catalogue. The scan, which holds a lock meanwhile, is its only user and removes it at the end.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import numpy as np

from dali_pipes.scan.catalog import MAGIC, Entry
from dali_pipes.video.packet_table import PACKET, Video

SECONDS_AT_RISK = 1.0  # a kill loses no more work than this
_TABLE = f"found_{MAGIC.decode()}"  # what another version found is not looked at
_KEY = "path BLOB PRIMARY KEY, seen_size, seen_mtime_ns, checked, reader"
_FOUND = "reason, width, height, frames, fps, codec, access, description, size, mtime_ns, packets"


class Journal:
    """Entries by what was asked: a path, and for a folder of pictures what else its answer depends on.

    One is found again only for the same size and time, by the same reader, and if it was checked at least as well.
    """

    def __init__(self, file: Path, reader: str):
        self.file = file
        self.reader = reader
        try:
            self._open()
        except sqlite3.OperationalError:  # no place for it, which is the caller's to know
            raise
        except sqlite3.DatabaseError:  # damaged: what it held is only work to be done again
            self.remove()
            self._open()

    def _open(self) -> None:
        self._database = sqlite3.connect(self.file)
        self._database.execute("PRAGMA synchronous = OFF")  # safe against a kill; against a power cut it need not be
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} ({_KEY}, {_FOUND})")
        self._committed = time.monotonic()

    def add(self, question: str, entry: Entry) -> None:
        """Remember what was found."""
        values = [os.fsencode(question), entry.size, entry.mtime_ns, entry.check, self.reader, *_columns(entry.outcome)]
        self._database.execute(f"INSERT OR REPLACE INTO {_TABLE} VALUES ({', '.join('?' * len(values))})", values)
        if time.monotonic() - self._committed > SECONDS_AT_RISK:
            self._database.commit()
            self._committed = time.monotonic()

    def find(self, question: str, size: int, mtime_ns: int, check: int) -> Entry | None:
        """What was found, if it was this very file. The question stands for the path of a video."""
        row = self._database.execute(
            f"SELECT checked, {_FOUND} FROM {_TABLE} "
            "WHERE path = ? AND seen_size = ? AND seen_mtime_ns = ? AND checked >= ? AND reader = ?",
            (os.fsencode(question), size, mtime_ns, check, self.reader),
        ).fetchone()
        if row is None:
            return None
        checked, reason, *shape, packets = row
        return Entry(size, mtime_ns, checked, reason or Video(question, *shape, np.frombuffer(packets, PACKET)))

    def close(self) -> None:
        """Keep what was found for the next scan."""
        self._database.commit()
        self._database.close()

    def remove(self) -> None:
        """Forget it: the catalogue holds it all."""
        self._database.close()
        self.file.unlink(missing_ok=True)
        self.file.with_name(f"{self.file.name}-journal").unlink(missing_ok=True)


def _columns(outcome: Video | str) -> list:
    """A video or a reason as the columns of _FOUND."""
    if isinstance(outcome, str):
        return [outcome] + [None] * _FOUND.count(",")
    video = outcome
    shape = [video.width, video.height, video.frames, video.fps, video.codec, video.access, video.description]
    return [None, *shape, video.size, video.mtime_ns, video.packets.tobytes()]
