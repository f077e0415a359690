"""`path label` and `path frames label` a line: the lists of TSM, mmaction2, PaddleVideo, and our own.

Split at the last blanks, so that paths may hold blanks.
"""

from __future__ import annotations

import re

from dali_pipes.errors import DataError
from dali_pipes.lists.formats import tables
from dali_pipes.lists.formats.annotation import FRAMES_LIMIT, Annotation, Row, number, read_rows
from dali_pipes.lists.formats.folders import is_video_name
from dali_pipes.lists.formats.source import Source

_NUMBERS = re.compile(r"(?:\s+[0-9]+)+$")
_WITH_FRAMES = re.compile(r"\S\s+[1-9][0-9]*\s+[0-9]+\s*$")


def has_frames(source: Source) -> bool:
    """Recognise a list whose every line could be `path frames label`."""
    if not _WITH_FRAMES.search(source.first_line):
        return False  # most lists are none, and need not be divided into lines to know it
    return all(_WITH_FRAMES.search(line) for _, line in source.lines())


def read(source: Source) -> Annotation:
    """Read `path label` lines."""
    _refuse_table(source)

    def parse(line: int, content: str) -> Row:
        words = content.rsplit(maxsplit=1)
        try:
            if len(words) < 2:
                raise ValueError(f"no label in {content.strip()[:80]!r}; expected `path label`")
            return Row(source.path, line, words[0], number(words[1], "label"))
        except ValueError as error:
            raise ValueError(f"{error}{_advice(content)}") from None

    annotation = Annotation(read_rows(source.path, source.lines(), parse))
    _refuse_several_labels(annotation.rows)
    return annotation


def _refuse_table(source: Source) -> None:
    """Raise DataError for a table, by the ending of its name, whose columns have other names or none."""
    line = source.first_line
    if not source.path.lower().endswith(tables.CSV_ENDINGS) or not re.search(r"[,;\t]", line) or _NUMBERS.search(line):
        return
    columns = tables.header(source).names
    if any(map(is_video_name, columns)):
        reason = "is a table without names of its columns; add a first line such as `path,label`"
    else:
        names = ", ".join(columns)[:200]
        reason = f"has the columns {names}; name that of the videos `path` and that of the classes `label`"
    raise DataError(f"{source.path}:1", reason)


def _advice(line: str) -> str:
    """Return what else could be meant by a line that is not `path label`."""
    if line.lstrip().startswith(("#", "//")):
        return "; lists have no comments, so remove this line"
    if is_video_name(line.split()[-1]) and len(line.split()) > 1:
        return "; the label comes last, after the path"
    if line.split()[0].lower() in ("path", "video", "file", "filename", "name"):
        return "; if the line names the columns, remove it, or write a table with commas: `path,label`"
    if line.lstrip()[:1] in ("{", "["):
        return ', or JSON: an object such as {"path": "a.mp4", "label": 0} a line, or an array of them'
    if any(mark in line for mark in ",;\t"):
        return ", or a table whose first line names the columns `path` and `label`"
    is_name = line.split()[-1].isidentifier() and len(line.split()) > 1
    return "; names of classes need a table: `path,label` as its first line, then `a.mp4,jump`" if is_name else ""


def _refuse_several_labels(rows: list[Row]) -> None:
    """Raise DataError if numbers stand between the name of a video and its label in every row."""
    found = [_NUMBERS.search(row.path) for row in rows]
    if all(match and is_video_name(row.path[: match.start()]) for match, row in zip(found, rows, strict=True)):
        first = rows[0]
        raise DataError(
            f"{first.file}:{first.line}",
            f"several numbers after {first.path[: found[0].start()]!r}: a video has one label here; "
            "write `path label`, or `path frames label` with the true number of frames",
        )


def read_with_frames(source: Source) -> Annotation:
    """Read `path frames label` lines; `path` is a folder of frames, or a video when data.suffix makes it one."""

    def parse(line: int, content: str) -> Row:
        words = content.rsplit(maxsplit=2)
        if len(words) < 3:
            raise ValueError(f"expected `path frames label`, got {content.strip()!r}")
        path, frames, label = words
        return Row(source.path, line, path, number(label, "label"), number(frames, "frame count", FRAMES_LIMIT))

    annotation = Annotation(read_rows(source.path, source.lines(), parse))
    _refuse_several_labels(annotation.rows)
    return annotation
