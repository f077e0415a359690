"""Names of a conversion's results, and the record of finished results: a JSON object a line, safe against kills."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dali_pipes.errors import DataError
from dali_pipes.scan.catalog import Catalog
from dali_pipes.video.packet_table import Video
from engine.files import read_lines, replace_file


class Ledger:
    """Records of finished results by their path below `folder`. Records made with other settings are dropped."""

    def __init__(self, file: Path, folder: Path, settings: dict):
        self.folder, self.settings = folder, settings
        self.records = {record["result"]: record for record in read_lines(file) if record["settings"] == settings}
        replace_lines(file, self.records.values())
        self._file = file.open("a", encoding="utf-8")

    def has(self, source: Video, result: str) -> bool:
        """Tell whether the result was made from this version of the source, and is unchanged since."""
        record = self.records.get(result)
        return bool(record) and record["source"] == _identity(source) and record["seen"] == self._seen(result)

    def add(self, source: Video, result: str, made: dict) -> None:
        """Record a result that is in place."""
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
        """Return size and time of a result, which change if it does; None if it is missing."""
        with suppress(OSError):
            status = os.stat(self.folder / result)
            return [status.st_size, status.st_mtime_ns]


def replace_lines(file: Path, records: Iterable[dict]) -> None:
    """Write one JSON object a line, atomically."""
    replace_file(file, "".join(f"{json.dumps(record)}\n" for record in records))


def _identity(source: Video) -> dict:
    return {"path": source.path, "size": source.size, "mtime_ns": source.mtime_ns}


def list_name(source: str) -> str:
    """Return the name of a list in the new tree; `table.csv:train` becomes `table-train.list`."""
    name, _, split = os.path.basename(source).partition(":")
    return f"{os.path.splitext(name)[0]}{'-' if split else ''}{split}.list"


def result_names(catalogs: list[Catalog], suffix: str) -> dict[str, str]:
    """Return for each listed path the path of its result in the new tree: the same, with another suffix.

    If two would be the same (`a.avi`, `a.mp4`), each keeps its old suffix before the new one.
    """
    common = _common_folder(catalogs)
    paths = dict.fromkeys(catalog.path(row) for catalog in catalogs for row in range(len(catalog)))
    names = {path: os.path.relpath(path, common) for path in paths}
    bare = Counter(os.path.splitext(name)[0] for name in names.values())
    return {
        path: (stem if bare[stem := os.path.splitext(name)[0]] == 1 else name) + suffix for path, name in names.items()
    }


def _common_folder(catalogs: list[Catalog]) -> str:
    """Return the folder that holds all paths: the base of the lists' relative paths, if they have any."""
    folders = set()
    for catalog in catalogs:
        for row in range(len(catalog)):
            listed = catalog.listed_path(row)
            folders.add(os.path.dirname(listed) if os.path.isabs(listed) else catalog.base)
    return os.path.commonpath(folders)


def refuse_to_overwrite(results: dict[str, str], lists: dict[str, Path], out: Path) -> None:
    """Raise DataError if a result or a list would replace a source or another list."""
    for path, name in results.items():
        if os.path.realpath(out / name) == os.path.realpath(path):
            raise DataError(out, f"{name} would replace its source; write to another folder")
    for source, new in lists.items():
        if os.path.realpath(new) == os.path.realpath(source):
            raise DataError(out, f"{new.name} would replace the list itself; write to another folder")
    if len(set(lists.values())) < len(lists):
        raise DataError(out, "two lists would have the same name there; convert them one after the other")
