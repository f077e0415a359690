"""Tables: CSV or TSV with a header, and our own JSON lines.

Columns or keys: `path` and `label`; if known `frames` and `split`; for a part of a video `start` and `end`, in seconds,
of which either may be empty. Other projects' names for them are in `_OTHER_NAMES`. Labels are numbers or names, and the
first row says which. `read_paths` reads the same tables for predictions, which need no labels.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.annotation import (
    FRAMES_LIMIT,
    WHOLE,
    Annotation,
    Row,
    Window,
    number,
    read_rows,
    split_name,
)
from dali_pipes.lists.formats.source import Source

CSV_ENDINGS = (".csv", ".tsv")
_BETWEEN_LABELS = re.compile(r"[,;|]")
_OTHER_NAMES = {
    "path": ("video", "video_path", "videos", "file", "filename", "file_name", "filepath", "file_path", "clip_path"),
    "label": ("class", "class_name", "classname", "category", "action", "target", "label_name", "class_id", "label_id"),
    "frames": ("num_frames", "n_frames", "nframes", "frame_count", "total_frames", "video_frames"),
    "split": ("subset", "set", "partition"),
    "start": ("start_time", "time_start", "start_sec", "start_seconds", "t_start"),
    "end": ("end_time", "time_end", "end_sec", "end_seconds", "t_end", "stop"),
}


@lru_cache(maxsize=1024)
def standard_names(names: tuple[str, ...]) -> dict[str, str]:
    """Map columns or keys to the names that are read; those that stay are not in it.

    Another name counts if the standard one is not there, and no further one of the same meaning.
    """
    there = {name.lower(): name for name in names}
    found = {}
    for standard, others in _OTHER_NAMES.items():
        used = [name for name in others if name in there]
        if standard not in there and len(used) == 1:
            found[there[used[0]]] = standard
    return found


def is_csv(source: Source) -> bool:
    """Recognise a header that names a path and a label."""
    return {"path", "label"} <= set(_standard_header(source).names)


def is_jsonl(source: Source) -> bool:
    """Recognise a JSON object with a path in the first line."""
    try:
        return "path" in _standard(source.first_line)
    except ValueError:
        return False


def read_csv(source: Source) -> Annotation:
    """Read rows of lines below a header."""
    return _annotation(_csv_rows(source, _labelled(source)))


def read_jsonl(source: Source) -> Annotation:
    """Read rows of one JSON object a line."""
    return _annotation(_jsonl_rows(source, _labelled(source)))


def read_paths(source: Source) -> list[Row] | None:
    """Read the rows of a table or of JSON lines, whose labels may be missing; None for a list that is neither.

    Raises DataError for bad rows, as for training, and for a CSV file without a column of paths.
    """
    if is_jsonl(source):
        return _jsonl_rows(source, _unlabelled(source))
    columns, is_named_csv = _standard_header(source).names, source.path.lower().endswith(CSV_ENDINGS)
    if "path" in columns and (is_named_csv or len(columns) > 1):
        return _csv_rows(source, _unlabelled(source))
    if is_named_csv:
        raise DataError(f"{source.path}:1", f"has no column path; it has {', '.join(header(source).names)}")
    return None


ToRow = Callable[[int, Mapping[str, object]], Row]  # of the number of a line and its fields


def _csv_rows(source: Source, row: ToRow) -> list[Row]:
    columns = _standard_header(source)
    lines = islice(source.lines(), 1, None)
    return read_rows(source.path, lines, lambda line, content: row(line, columns.fields(content)))


def _jsonl_rows(source: Source, row: ToRow) -> list[Row]:
    return read_rows(source.path, source.lines(), lambda line, content: row(line, _standard(content)))


def _standard(line: str) -> dict:
    """Parse the JSON object of a line, and give its keys the names that are read. Raises ValueError."""
    found = json_object(line)
    standard = standard_names(tuple(found))
    return {standard.get(key, key): value for key, value in found.items()} if standard else found


def _annotation(rows: list[Row]) -> Annotation:
    """Make rows an annotation. Raises DataError if a label is a series of numbers, or of other labels of the table."""
    first = {row.label: row for row in reversed(rows)}  # row with each label
    for label, row in reversed(first.items()):
        parts = [part.strip() for part in _BETWEEN_LABELS.split(str(label))]
        if len(parts) > 1 and (all(map(str.isdecimal, parts)) or first.keys() >= set(parts)):
            raise DataError(f"{row.file}:{row.line}", f"several labels, {label!r}: a video has one label here")
    return Annotation(rows)


def column(source: Source, name: str) -> list[str]:
    """Return a column of a table, one value for each row of `read_csv`. Raises DataError if there is none."""
    columns, wanted = header(source), name.lower()
    if wanted not in columns.names:
        columns = _standard_header(source)
    if wanted not in columns.names:
        raise DataError(f"{source.path}:1", f"has no column {name}; it has {', '.join(header(source).names)}")
    return [columns.fields(line)[wanted] for _, line in islice(source.lines(), 1, None)]


def json_object(line: str) -> dict:
    """Parse the JSON object of a line. Raises ValueError."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object such as {{'path': ..., 'label': ...}}, got {line.strip()[:40]!r}")
    return value


def text(fields: Mapping[str, object], name: str) -> str:
    """Return a field as text, empty if it is missing. Raises ValueError if it is neither text nor a whole number."""
    value = fields.get(name)
    if isinstance(value, bool) or not (value is None or isinstance(value, str | int)):
        raise ValueError(f"{name} is {json.dumps(value)[:40]}, neither text nor a whole number")
    value = "" if value is None else str(value)
    value.encode("utf-8", "surrogateescape")  # JSON can spell half of a character
    return value


def window(fields: Mapping[str, object]) -> Window:
    """Return the part of a video that `start` and `end` name. Raises ValueError if it is none, or has no length."""
    found = Window(_seconds(fields, "start", WHOLE.start), _seconds(fields, "end", WHOLE.end))
    if found.start >= found.end:
        raise ValueError(f"the part from {found} is empty: its end must be greater than its start")
    return found


def _seconds(fields: Mapping[str, object], name: str, default: float) -> float:
    value = fields.get(name)
    if value in (None, ""):
        return default
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name} {str(value)[:40]!r} is not a time in seconds, at least 0")
    return seconds


def _unlabelled(source: Source) -> ToRow:
    """Return a function that makes rows without labels of fields."""

    def row(line: int, fields: Mapping[str, object]) -> Row:
        if not (path := text(fields, "path")):
            raise ValueError("no path")
        return Row(source.path, line, path, "", window=window(fields))

    return row


def _labelled(source: Source) -> ToRow:
    """Return a function that makes rows of fields, and requires all labels to be of the kind of the first."""
    named: bool | None = None

    def row(line: int, fields: Mapping[str, object]) -> Row:
        nonlocal named
        path, label, frames = text(fields, "path"), text(fields, "label"), text(fields, "frames")
        if not path or not label:
            raise ValueError(f"no {'label' if path else 'path'}")
        if named is None:
            named = not (label.isascii() and label.isdigit())
        numbered = label if named else number(label, "label")
        count = number(frames, "frame count", FRAMES_LIMIT) if frames else 0
        split = text(fields, "split")
        return Row(source.path, line, path, numbered, count, split_name(split) or split, window(fields))

    return row


class Header(NamedTuple):
    """The first line of a table."""

    names: list[str]  # lower case
    delimiter: str

    def fields(self, line: str) -> dict[str, str]:
        """Return the fields of a later line, stripped. Raises ValueError if their number is not that of the header."""
        values = split(line, self.delimiter)
        if len(values) != len(self.names):
            raise ValueError(f"{len(values)} fields, but the header names {len(self.names)}")
        return dict(zip(self.names, values, strict=True))


def header(source: Source) -> Header:
    """Parse the first line of a source as a header; without one the names are meaningless."""
    line = source.first_line
    delimiter = max(",\t;", key=line.count)
    try:
        names = [name.lower() for name in split(line, delimiter)]
    except ValueError:
        return Header([], delimiter)
    return Header(names, delimiter)


def _standard_header(source: Source) -> Header:
    columns = header(source)
    standard = standard_names(tuple(columns.names))
    return columns._replace(names=[standard.get(name, name) for name in columns.names])


def split(line: str, delimiter: str) -> list[str]:
    """Split a line into fields and remove CSV quotes. Raises ValueError."""
    try:
        return [field.strip() for field in next(csv.reader([line.strip("\r\n")], delimiter=delimiter, strict=True))]
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"not a line of a table: {error}") from error


_BLANKS = re.compile(r"[ \t\r\n]*")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # of a character beyond 16 bits; alone it is no text
_DECODER = json.JSONDecoder()


def items(source: Source) -> Iterator[tuple[int, object]]:
    """Yield (line, value) for each item of the source's array, or (line, (key, value)) for its object.

    Raises DataError with the line if the JSON is cut off or invalid.
    """
    line, counted = 1, 0
    has_halves = _HALF.search(source.text) is not None
    try:
        for start, item in _items(source.text):
            line += source.text.count("\n", counted, start)
            counted = start
            if has_halves:
                json.dumps(item, ensure_ascii=False).encode("utf-8")
            yield line, item
    except json.JSONDecodeError as error:
        raise DataError(f"{source.path}:{error.lineno}", f"not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source.path}:{line}", f"JSON that cannot be read: {error}") from error


def _items(text: str) -> Iterator[tuple[int, object]]:
    """Yield (position, item) for each item."""
    at = _skip(text, 0)
    closing = {"[": "]", "{": "}"}.get(text[at : at + 1])
    if closing is None:
        raise json.JSONDecodeError("expected an array or an object", text, at)
    at = _skip(text, at + 1)
    while text[at : at + 1] != closing:
        start = at
        item, at = _DECODER.raw_decode(text, at)
        if closing == "}":
            value, at = _DECODER.raw_decode(text, _expect(text, at, ":"))
            item = item, value
        yield start, item
        at = _skip(text, at)
        if text[at : at + 1] != closing:
            at = _expect(text, at, ",")
    end = _skip(text, at + 1)
    if end < len(text):
        raise json.JSONDecodeError("more after the end", text, end)


def _skip(text: str, at: int) -> int:
    """Return the next position that is not blank."""
    return _BLANKS.match(text, at).end()


def _expect(text: str, at: int, mark: str) -> int:
    """Return the position after a mark and the blanks around it."""
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise json.JSONDecodeError(f"expected {mark!r}", text, at)
    return _skip(text, at + 1)
