"""The files of a conversion: names of its results, and the record of those that are finished, safe against kills."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from configs import ConfigError
from dali_pipes.errors import DataError
from dali_pipes.scan.catalog import Catalog
from dali_pipes.video.packet_table import Video
from engine.files import ignores_case, read_lines
from engine.locks import LOCK
from engine.output_record import is_result
from engine.outputs import Outputs

_LARGE = 64 << 20  # bytes of a file of which only the ends are hashed
_END = 1 << 20


class FinishedResults:
    """The record of finished results: a text file with a JSON object a line.

    Results are named by their path below `folder`. Records of other settings and of older versions stay: they show
    which files a conversion wrote.
    """

    def __init__(self, file: Path, folder: Path, settings: dict, outputs: Outputs):
        """Raises ConfigError if `file` is no such record."""
        self.folder, self.settings = folder, settings
        self._file, self._outputs = file, outputs
        self._known: dict[str, list[dict]] = defaultdict(list)
        outputs.check(file)
        if os.path.lexists(file) and not is_result(file):
            file.unlink()  # as --force asks
        for record in read_lines(file):
            self._known[record["result"]].append(record)

    def record(self, result: str) -> dict:
        """Return the record of a finished result."""
        return self._known[result][-1]

    def has(self, source: Video, result: str) -> bool:
        """Tell whether the result was made from this version of the source, with these settings, and is unchanged."""
        found = self._known[result][-1:]
        seen = _seen(self.folder / result)
        return any(
            (record["source"], record["settings"], record["seen"]) == (identity(source), self.settings, seen)
            for record in found
        )

    def check(self, source: str, result: str) -> None:
        """Raise ConfigError if a result may not be written: another file is in the way, or a source of the command."""
        path = self.folder / result
        records = self._known[result]
        if not os.path.lexists(path):
            return
        if records and _is_unchanged(path, records):
            if records[-1]["source"]["path"] != source and self._outputs.problem(path):
                made_of = records[-1]["source"]["path"]
                raise ConfigError(f"{path}: was made of {made_of}, not of {source}; write to another folder")
            self._outputs.refuse_source(path)
        else:
            self._outputs.check(path)

    def place(self, source: Video, result: str, made: Path, record: dict) -> None:
        """Record a result, then move it to its place: so it is known whenever a kill comes. Raises ConfigError."""
        path = self.folder / result
        self.check(source.path, result)
        path.parent.mkdir(parents=True, exist_ok=True)
        known = {"result": result, "source": identity(source), "seen": _seen(made), "content": _content(made)}
        known |= {"settings": self.settings, **record}
        self._known[result].append(known)
        self._outputs.append_line(self._file, json.dumps(known))
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        made.replace(path)


def identity(source: Video) -> dict:
    """Return what changes with a source, as JSON holds it."""
    return {"path": source.path, "size": source.size, "mtime_ns": source.mtime_ns}


def _seen(path: Path) -> list[int] | None:
    """Return size and time of a result, which change if it does; None if it is missing."""
    with suppress(OSError):
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns]
    return None


def _content(path: Path) -> str:
    """Hash the content of a file, of a large one its ends, or the names, sizes and times of the files in a folder.

    Size and time are compared, too, and to read a shard again would take as long as to write it.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size <= _LARGE:
                return hashlib.file_digest(file, "sha256").hexdigest()
            ends = hashlib.sha256(file.read(_END))
            file.seek(-_END, os.SEEK_END)
            ends.update(file.read())
            return ends.hexdigest()
    entries = sorted((entry.name, entry.is_dir(), *_seen(Path(entry.path))) for entry in os.scandir(path))
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def _is_unchanged(path: Path, records: list[dict]) -> bool:
    """Tell whether a path is a result as one of its records has it."""
    if path.is_symlink():
        return False
    seen = _seen(path)
    candidates = [record for record in records if record["seen"] == seen]
    return bool(candidates) and _content(path) in [record.get("content") for record in candidates]


def list_name(source: str) -> str:
    """Return the name of a list in the new tree; `table.csv:train` becomes `table-train.list`."""
    name, _, split = os.path.basename(source).partition(":")
    return f"{os.path.splitext(name)[0]}{'-' if split else ''}{split}.list"


def key_of(catalog: Catalog, row: int, by_part: bool) -> str:
    """Return the key of a row's result: the path of its video, with `by_part` followed by the times of the part."""
    part = _part(catalog, row) if by_part else ""
    return f"{catalog.path(row)}#t={part}" if part else catalog.path(row)


def _part(catalog: Catalog, row: int) -> str:
    """Return the times of a row's part as in the name of a file, `12.4-15` or `12.4-end`; empty for a whole video."""
    if catalog.span_N2 is None:
        return ""
    start, end = catalog.span_N2[row].tolist()
    times = [f"{second:.6f}".rstrip("0").rstrip(".") if second < math.inf else "end" for second in (start, end)]
    return "" if times == ["0", "end"] else "-".join(times)


def result_names(catalogs: list[Catalog], suffix: str, by_part: bool = False) -> dict[str, str]:
    """Return for the key of each row the path of its result in the new tree: the same, with another suffix.

    If two would be the same (`a.avi`, `a.mp4`), or one the folder of another (`a.mp4`, `a/b.mp4`), each keeps its old
    suffix before the new one. With `by_part` the times of a part come before the suffix: `a_12.4-15.mp4`.
    """
    stems = _result_stems(catalogs, suffix)
    names = {}
    for catalog in catalogs:
        for row in range(len(catalog)):
            part = _part(catalog, row) if by_part else ""
            names[key_of(catalog, row, by_part)] = f"{stems[catalog.path(row)]}{'_' if part else ''}{part}{suffix}"
    return names


def _result_stems(catalogs: list[Catalog], suffix: str) -> dict[str, str]:
    """Return for each listed path the path of its result without the new suffix."""
    common = common_folder(catalogs)
    paths = dict.fromkeys(catalog.path(row) for catalog in catalogs for row in range(len(catalog)))
    names = {path: os.path.relpath(path, common) for path in paths}
    bare = Counter(os.path.splitext(name)[0] for name in names.values())
    folders = {str(folder) for name in names.values() for folder in Path(name).parents}

    def stem_of(name: str) -> str:
        stem = os.path.splitext(name)[0]
        return stem if bare[stem] == 1 and stem + suffix not in folders else name

    return {path: stem_of(name) for path, name in names.items()}


def common_folder(catalogs: list[Catalog]) -> str:
    """Return the folder that holds all paths: the base of the lists' relative paths, if they have any."""
    folders = set()
    for catalog in catalogs:
        for row in range(len(catalog)):
            listed = catalog.listed_path(row)
            folders.add(os.path.dirname(listed) if os.path.isabs(listed) else catalog.base)
    return os.path.commonpath(folders)


def refuse_conflicts(results: Iterable[str], files: Iterable[Path], out: Path) -> None:
    """Raise DataError if two files of a conversion would have the same name, also on a disk that ignores case."""
    results = list(results)
    files = [str(file.relative_to(out)) for file in files]
    if len(set(files)) < len(files):
        raise DataError(out, "two lists would have the same name there; convert them one after the other")
    key = str.casefold if ignores_case(out / LOCK) else str
    counts = Counter(key(name) for name in [*results, *files])
    taken = next((name for name in [*results, *files] if counts[key(name)] > 1), None)
    if taken is not None:
        raise DataError(out, f"two files would have the name {taken} there; rename a source, or convert it elsewhere")
