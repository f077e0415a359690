"""Tables: CSV or TSV with a header, our own JSON lines, and arrays of the same JSON objects.

Columns or keys are `path` and `label`; optionally `frames` and `split`; for a part of a video `start` and `end`, in
seconds or as hours:minutes:seconds, each of which may be empty, or `start` and `duration`. `_OTHER_NAMES` has the names
that other projects use. Labels are numbers or names; the first row decides. `read_paths` reads the same tables for
predictions, which need no labels.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.annotation import (
    FRAMES_LIMIT,
    WHOLE,
    Annotation,
    Row,
    Span,
    number,
    read_rows,
)
from dali_pipes.lists.formats.json_text import EXAMPLE, items, json_object
from dali_pipes.lists.formats.source import Source, split_name

CSV_ENDINGS = (".csv", ".tsv")
_BETWEEN_LABELS = re.compile(r"[,;|]")
_OTHER_NAMES = {
    "path": ("video", "video_path", "videos", "file", "filename", "file_name", "filepath", "file_path", "clip_path"),
    "label": ("class", "class_name", "classname", "category", "action", "target", "label_name", "class_id", "label_id"),
    "frames": ("num_frames", "n_frames", "nframes", "frame_count", "total_frames", "video_frames"),
    "split": ("subset", "set", "partition"),
    "start": ("start_time", "time_start", "start_sec", "start_seconds", "t_start"),
    "end": ("end_time", "time_end", "end_sec", "end_seconds", "t_end", "stop"),
    "duration": ("duration_sec", "duration_seconds", "clip_duration"),
}


def _as_word(name: str) -> str:
    """Return the name of a column in the form of the names above: `File Name` -> `file_name`."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


_MEANING = {name: standard for standard, others in _OTHER_NAMES.items() for name in (standard, *others)}
_CLOCK = re.compile(
    r"(?:(?P<hours>[0-9]{1,4}):(?=[0-5]?[0-9]:))?(?P<minutes>[0-9]{1,4}):(?P<seconds>[0-5]?[0-9](?:\.[0-9]*)?)"
)  # minutes have more than 59 only without hours
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)  # 1.0 and -1 are not class names


@lru_cache(maxsize=1024)
def standard_names(names: tuple[str, ...]) -> dict[str, str]:
    """Map the columns or keys that are read to their standard names.

    Another name is used if the standard one is missing. A duration is read only for parts that have a start and no end;
    otherwise, it is that of the video. Raises ValueError if two names have the same meaning.
    """
    found: dict[str, str] = {}
    for standard, others in _OTHER_NAMES.items():
        if standard == "duration" and ("start" not in found.values() or "end" in found.values()):
            continue
        same = [name for name in names if _as_word(name) == standard]
        same = same or [name for name in names if _as_word(name) in others]
        if len(same) > 1:
            raise ValueError(f"{' and '.join(same)} may both be the {standard}; keep one, named {standard!r}")
        found |= dict.fromkeys(same, standard)
    return found


def _meanings(names: Iterable[str]) -> set[str]:
    """Return the standard names of the known columns or keys."""
    return {_MEANING[word] for word in map(_as_word, names) if word in _MEANING}


def is_csv(source: Source) -> bool:
    """Recognise a header with a path and a label."""
    return {"path", "label"} <= _meanings(header(source).names)


def is_jsonl(source: Source) -> bool:
    """Recognise a JSON object with a path on the first line."""
    try:
        return "path" in _meanings(json.loads(source.first_line).keys())
    except (ValueError, AttributeError, RecursionError):
        return False


def is_json(source: Source) -> bool:
    """Recognise an array whose first item is a JSON object with a path."""
    if not source.first_line.startswith("["):
        return False
    try:
        _, first = next(items(source))
        return "path" in _meanings(first.keys())
    except (DataError, StopIteration, AttributeError):
        return False


def read_csv(source: Source) -> Annotation:
    """Read the rows below a header."""
    return with_one_label(_of_csv(source, _labelled(source)))


def read_jsonl(source: Source) -> Annotation:
    """Read rows from one JSON object per line."""
    return with_one_label(_of_jsonl(source, _labelled(source)))


def read_json(source: Source) -> Annotation:
    """Read rows from an array of JSON objects."""
    return with_one_label(_of_json(source, _labelled(source)))


def read_paths(source: Source) -> Annotation | None:
    """Read the rows of a table or of JSON, without requiring labels; None for a list that is neither.

    Raises DataError for bad rows, as in training, and for a CSV file without a column of paths.
    """
    if is_jsonl(source):
        return _of_jsonl(source, _unlabelled(source))
    if is_json(source):
        return _of_json(source, _unlabelled(source))
    columns, is_named_csv = header(source).names, source.path.lower().endswith(CSV_ENDINGS)
    if "path" in _meanings(columns) and (is_named_csv or len(columns) > 1):
        return _of_csv(source, _unlabelled(source))
    if is_named_csv:
        raise DataError(f"{source.path}:1", f"has no column path; it has {', '.join(header(source).names)}")
    return None


ToRow = Callable[[int, Mapping[str, object]], Row]  # (line number, fields) -> row


def _of_csv(source: Source, row: ToRow) -> Annotation:
    columns, names = _standard_header(source), header(source).names
    lines = islice(source.lines(), 1, None)
    rows = read_rows(source.path, lines, lambda line, content: row(line, columns.fields(content)))
    read = standard_names(tuple(names))
    return _annotation(rows, (name for name in names if name not in read))


def _of_jsonl(source: Source, row: ToRow) -> Annotation:
    unread: dict[str, None] = {}
    rows = read_rows(source.path, source.lines(), lambda line, text: row(line, _named(json_object(text), unread)))
    return _annotation(rows, unread)


def _of_json(source: Source, row: ToRow) -> Annotation:
    unread: dict[str, None] = {}
    rows = read_rows(source.path, items(source), lambda line, item: row(line, _named(item, unread)))
    return _annotation(rows, unread)


def _named(found: object, unread: dict[str, None]) -> dict:
    """Return a JSON object with standard keys; add unknown keys to `unread`. Raises ValueError."""
    if not isinstance(found, dict):
        raise ValueError(f"expected {EXAMPLE}, got {json.dumps(found)[:40]}")
    standard = standard_names(tuple(found))
    unread.update((key, None) for key in found if key not in standard)
    return {standard.get(key, key): value for key, value in found.items()}


def _annotation(rows: list[Row], unread: Iterable[str]) -> Annotation:
    """Return an annotation of the rows, with a note about columns or keys that were not read."""
    names = ", ".join(filter(None, unread))
    return Annotation(rows, notes=(f"not used for its rows: {names}",) if names else ())


def with_one_label(annotation: Annotation) -> Annotation:
    """Return the annotation. Raises DataError if a label is a series of numbers, or of other labels of the table."""
    first = {row.label: row for row in reversed(annotation.rows)}  # a row for each label
    for label, row in reversed(first.items()):
        parts = [part.strip() for part in _BETWEEN_LABELS.split(str(label))]
        if len(parts) > 1 and (all(map(str.isdecimal, parts)) or first.keys() >= set(parts)):
            raise DataError(f"{row.file}:{row.line}", f"several labels, {label!r}: a video has one label here")
    return annotation


def column(source: Source, format_name: str, name: str) -> list[str]:
    """Return a column of a table or a key of JSON objects, one value per row. Raises DataError if there is none."""
    if source.text is None:
        raise DataError(source.path, f"is a folder, which has no column {name}; data.group_regex finds groups in names")
    if format_name == "jsonl":
        return _json_column(source, ((line, json_object(text)) for line, text in source.lines()), name)
    if format_name == "json":
        return _json_column(source, items(source), name)
    columns, wanted = header(source), name.lower()
    if wanted not in columns.names:
        columns = _standard_header(source)
    if wanted not in columns.names:
        raise DataError(f"{source.path}:1", f"has no column {name}; it has {', '.join(header(source).names)}")
    return [columns.fields(line)[wanted] for _, line in islice(source.lines(), 1, None)]


def _json_column(source: Source, objects: Iterable[tuple[int, object]], name: str) -> list[str]:
    values = []
    for line, found in objects:
        fields = {key.lower(): value for key, value in (_named(found, {}) | dict(found)).items()}
        if name.lower() not in fields:
            raise DataError(f"{source.path}:{line}", f"has no column {name}; it has {', '.join(found)}")
        values.append(str(fields[name.lower()]))
    return values


def text(fields: Mapping[str, object], name: str) -> str:
    """Return a field as text, empty if it is missing. Raises ValueError if it is neither text nor a whole number."""
    value = fields.get(name)
    if isinstance(value, bool) or not (value is None or isinstance(value, str | int)):
        raise ValueError(f"{name} is {json.dumps(value)[:40]}, neither text nor a whole number")
    value = "" if value is None else str(value)
    value.encode("utf-8", "surrogateescape")  # JSON may contain a lone surrogate
    return value


def span(fields: Mapping[str, object]) -> Span:
    """Return the part of a video from `start` to `end`, or of a `duration` from `start` on. Raises ValueError if these
    are invalid, or the part is empty.
    """
    start, end = _seconds(fields, "start", WHOLE.start), _seconds(fields, "end", WHOLE.end)
    if "start" in fields and "end" not in fields:
        end = round(start + _seconds(fields, "duration", WHOLE.end), 9)  # 0.1 + 0.2 is 0.3, as an end would be given
    found = Span(start, end)
    if found.start >= found.end:
        raise ValueError(f"the part from {found} is empty: its end must be greater than its start")
    return found


def _seconds(fields: Mapping[str, object], name: str, default: float) -> float:
    value = fields.get(name)
    if value in (None, ""):
        return default
    if isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return round(3600 * hours + 60 * minutes + seconds, 9)
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(
            f"{name} {str(value)[:40]!r} is not a time in seconds, at least 0, as in 62.5, 1:02.5, 0:01:02.5"
        )
    return seconds


def _unlabelled(source: Source) -> ToRow:
    """Return a function that makes rows without labels from fields."""

    def row(line: int, fields: Mapping[str, object]) -> Row:
        if not (path := text(fields, "path")):
            raise ValueError("no path")
        return Row(source.path, line, path, "", span=span(fields))

    return row


def _labelled(source: Source) -> ToRow:
    """Return a function that makes rows from fields, and requires all labels to be of the same type as the first."""
    named: bool | None = None

    def row(line: int, fields: Mapping[str, object]) -> Row:
        nonlocal named
        path, label, frames = text(fields, "path"), text(fields, "label"), text(fields, "frames")
        if not path or not label:
            raise ValueError(f"no {'label' if path else 'path'}")
        is_whole = label.isascii() and label.isdigit()
        if named is None:
            named = not is_whole
        is_name = named and (is_whole or not NUMBER.fullmatch(label))
        numbered = label if is_name else number(label, "label")
        count = number(frames, "frame count", FRAMES_LIMIT) if frames else 0
        split = text(fields, "split")
        return Row(source.path, line, path, numbered, count, split_name(split) or split, span(fields))

    return row


class Header(NamedTuple):
    """The first line of a table."""

    names: list[str]  # lower case
    delimiter: str

    def fields(self, line: str) -> dict[str, str]:
        """Return the stripped fields of a line below the header. Raises ValueError if the number of fields differs."""
        values = split(line, self.delimiter)
        if len(values) != len(self.names):
            raise ValueError(f"{len(values)} fields, but the header names {len(self.names)}")
        return dict(zip(self.names, values, strict=True))


def header(source: Source) -> Header:
    """Parse the first line of a source as a header, even if it is none."""
    line = source.first_line
    delimiter = max(",\t;", key=line.count)
    try:
        names = [name.lower() for name in split(line, delimiter)]
    except ValueError:
        return Header([], delimiter)
    return Header(names, delimiter)


def _standard_header(source: Source) -> Header:
    """Return the header with standard names. Raises DataError if two columns have the same meaning."""
    columns = header(source)
    try:
        standard = standard_names(tuple(columns.names))
    except ValueError as error:
        raise DataError(f"{source.path}:1", str(error)) from error
    return columns._replace(names=[standard.get(name, name) for name in columns.names])


def split(line: str, delimiter: str) -> list[str]:
    """Split a line into fields and remove CSV quotes. Raises ValueError."""
    try:
        return [field.strip() for field in next(csv.reader([line.strip("\r\n")], delimiter=delimiter, strict=True))]
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"not a line of a table: {error}") from error
