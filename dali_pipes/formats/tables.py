"""Tables: CSV or TSV with a header, and our own JSON lines. Columns or keys: path, label, and if known frames, split.

Labels are numbers or names, and the first row says which. A part of a video (`start`, `end`) is refused: videos are
read whole, so parts are cut out first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import islice

from dali_pipes.errors import DataError
from dali_pipes.formats.annotation import FRAMES_LIMIT, Annotation, Row, Source, number, read_rows, split_name
from dali_pipes.formats.columns import header


def is_csv(source: Source) -> bool:
    """Whether the first line names a path and a label."""
    return {"path", "label"} <= set(header(source).names)


def is_jsonl(source: Source) -> bool:
    """Whether the first line is an object with a path."""
    try:
        return "path" in json_object(source.first_line)
    except ValueError:
        return False


def read_csv(source: Source) -> Annotation:
    """Rows of lines below a header."""
    columns, row = header(source), _row_reader(source)
    lines = islice(source.lines(), 1, None)
    return Annotation(read_rows(source.path, lines, lambda line, content: row(line, columns.fields(content))))


def read_jsonl(source: Source) -> Annotation:
    """Rows of one JSON object a line."""
    row = _row_reader(source)
    return Annotation(read_rows(source.path, source.lines(), lambda line, content: row(line, json_object(content))))


def column(source: Source, name: str) -> list[str]:
    """A column of a table, for each row of `read_csv`. Raises DataError where there is none."""
    columns = header(source)
    if name.lower() not in columns.names:
        raise DataError(f"{source.path}:1: has no column {name}; it has {', '.join(columns.names)}")
    return [columns.fields(line)[name.lower()] for _, line in islice(source.lines(), 1, None)]


def json_object(line: str) -> dict:
    """The object that a line holds. Raises ValueError."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object such as {{'path': ..., 'label': ...}}, got {line.strip()[:40]!r}")
    return value


def text(fields: Mapping[str, object], name: str) -> str:
    """A field as text; empty where there is none. Raises ValueError for what is neither text nor a whole number."""
    value = fields.get(name)
    if isinstance(value, bool) or not (value is None or isinstance(value, str | int)):
        raise ValueError(f"{name} is {json.dumps(value)[:40]}, neither text nor a whole number")
    value = "" if value is None else str(value)
    value.encode("utf-8")  # JSON can spell half of a character
    return value


def _row_reader(source: Source) -> Callable[[int, Mapping[str, object]], Row]:
    """Makes rows of fields; holds all labels to the kind of the first."""
    named: bool | None = None

    def row(line: int, fields: Mapping[str, object]) -> Row:
        nonlocal named
        path, label, frames = text(fields, "path"), text(fields, "label"), text(fields, "frames")
        if not path or not label:
            raise ValueError(f"no {'label' if path else 'path'}")
        if fields.get("start") not in (None, "") or fields.get("end") not in (None, ""):
            raise ValueError(
                "asks for a part of a video, but videos are read whole; cut the part out into a file first"
            )
        if named is None:
            named = not (label.isascii() and label.isdigit())
        numbered = label if named else number(label, "label")
        count = number(frames, "frame count", FRAMES_LIMIT) if frames else 0
        split = text(fields, "split")
        return Row(source.path, line, path, numbered, count, split_name(split) or split)

    return row
