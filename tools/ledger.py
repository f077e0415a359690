"""What has been made so far of which sources: a text file with a JSON object a line, which a kill cannot spoil."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dali_pipes.video.packet_table import Video
from engine.files import read_lines, replace_file


class Ledger:
    """Records by name of the result, a path below `folder`. Those of other settings are forgotten."""

    def __init__(self, file: Path, folder: Path, settings: dict):
        self.folder, self.settings = folder, settings
        self.records = {record["result"]: record for record in read_lines(file) if record["settings"] == settings}
        replace_lines(file, self.records.values())
        self._file = file.open("a", encoding="utf-8")

    def has(self, source: Video, result: str) -> bool:
        """Whether the result was made from this very source, and is as it was when it was made."""
        record = self.records.get(result)
        return bool(record) and record["source"] == _identity(source) and record["seen"] == self._seen(result)

    def add(self, source: Video, result: str, made: dict) -> None:
        """Note a result that is in place."""
        record = {
            "result": result,
            "source": _identity(source),
            "seen": self._seen(result),
            "settings": self.settings,
            **made,
        }
        self.records[result] = record
        self._file.write(f"{json.dumps(record)}\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _seen(self, result: str) -> list[int] | None:
        """What tells that a result is unchanged."""
        with suppress(OSError):
            status = os.stat(self.folder / result)
            return [status.st_size, status.st_mtime_ns]


def replace_lines(file: Path, records: Iterable[dict]) -> None:
    """Write one JSON object a line, all or nothing."""
    replace_file(file, "".join(f"{json.dumps(record)}\n" for record in records))


def _identity(source: Video) -> dict:
    return {"path": source.path, "size": source.size, "mtime_ns": source.mtime_ns}
