"""Kinetics-400, -600 and -700: CSV or text with and without a header, and JSON, as DeepMind and CVDF publish them.

A clip is `ID_START_END.mp4`, with the times in seconds and six digits. CVDF's archives have all clips of a split in one
folder, and replacements of damaged files for Kinetics-400 in another. Other mirrors have one folder per class, with
blanks or underscores in the names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice

from dali_pipes.lists.formats.annotation import Annotation, Places, Row, read_rows
from dali_pipes.lists.formats.json_text import items
from dali_pipes.lists.formats.source import Source, split_name
from dali_pipes.lists.formats.tables import header, split

_PLAIN = ("label", "youtube_id", "time_start", "time_end", "split")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]+)?$")
_ID = re.compile(r"[\w-]{11}$", re.ASCII)
_CLIP = re.compile(r"(?P<label>[^/]+)/(?P<name>[\w-]{11}_[0-9]{6}_[0-9]{6})(\.mp4)?$", re.ASCII)
_REPAIRS = "replacement_for_corrupted_k400"
_SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}


def is_table(source: Source) -> bool:
    """Recognise a header with a YouTube id, a line of such a table, or `class name/clip` in the first line."""
    return "youtube_id" in header(source).names or _is_plain(source) or bool(_CLIP.match(source.first_line))


def is_json(source: Source) -> bool:
    """Recognise a JSON object of objects."""
    return re.match(r'\s*\{\s*"[^"]*"\s*:\s*\{', source.text) is not None


def read_table(source: Source) -> Annotation:
    """Read the rows of CSV or text."""
    if _CLIP.match(source.first_line):
        return Annotation(read_rows(source.path, source.lines(), lambda *line: _clip(source, *line)))
    if _is_plain(source):
        lines, fields = source.lines(), _plain_fields
    else:
        lines, fields = islice(source.lines(), 1, None), header(source).fields
    return Annotation(read_rows(source.path, lines, lambda line, content: _row(source, line, fields(content))))


def read_json(source: Source) -> Annotation:
    """Read the rows of `{id: {"annotations": {"label": ..., "segment": [start, end]}, "subset": ...}, ...}`."""

    def parse(line: int, item: object) -> Row:
        match item:
            case youtube_id, {"annotations": {"label": str(label), "segment": [start, end]}, **others}:
                values = label, youtube_id, str(start), str(end), str(others.get("subset", ""))
            case _:
                raise ValueError("expected an id with annotations: a label and a segment")
        return _row(source, line, dict(zip(_PLAIN, values, strict=True)))

    return Annotation(read_rows(source.path, items(source), parse))


def places(row: Row) -> Places:
    """Return the folders of replacements first, then class folders, then the others."""
    return _places(row.split, str(row.label))


@lru_cache(maxsize=4096)
def _places(subset: str, label: str) -> Places:
    above = (*((name,) for name in _SPLIT_FOLDERS.get(subset, ())), ())
    repairs = ("replacement", _REPAIRS), (_REPAIRS,)
    return (*repairs, *((*folder, label) for folder in above), *above)


def origin(path: str) -> str:
    """Return the YouTube id, which all clips of one upload share."""
    return path.rpartition("/")[2][:11]


def _is_plain(source: Source) -> bool:
    """Return True if the first line belongs to a table without a header."""
    try:
        fields = split(source.first_line, ",")
    except ValueError:
        return False
    return len(fields) >= 4 and bool(_ID.match(fields[1]) and all(map(_SECONDS.match, fields[2:4])))


def _plain_fields(line: str) -> dict[str, str]:
    """Return the fields of a line in a table without a header, up to the split."""
    return dict(zip(_PLAIN, split(line, ","), strict=False))


def _row(source: Source, line: int, fields: Mapping[str, str]) -> Row:
    if not fields.get("label"):
        raise ValueError("no label; the published test set of some editions has none, so it cannot be scored")
    youtube_id, start, end = (fields.get(name, "") for name in ("youtube_id", "time_start", "time_end"))
    if not _ID.match(youtube_id):
        raise ValueError(f"{youtube_id[:40]!r} is not a YouTube id")
    if not (_SECONDS.match(start) and _SECONDS.match(end)):
        raise ValueError(f"{start[:20]!r} to {end[:20]!r} is not a range of seconds")
    name = f"{youtube_id}_{int(float(start)):06d}_{int(float(end)):06d}"
    subset = fields.get("split", "")
    return Row(source.path, line, name, fields["label"].strip('"'), split=split_name(subset) or subset)


def _clip(source: Source, line: int, content: str) -> Row:
    found = _CLIP.match(content.strip())
    if not found:
        raise ValueError(f"expected `class name/ID_START_END.mp4`, got {content.strip()[:60]!r}")
    return Row(source.path, line, found["name"], found["label"])
