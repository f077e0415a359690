"""Write lists and class names so that this project reads them back exactly."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dali_pipes.errors import DataError
from dali_pipes.lists.classes import CLASSES
from dali_pipes.lists.formats import read
from dali_pipes.lists.formats.annotation import WHOLE, Span
from dali_pipes.lists.formats.class_names import parse_class_names
from dali_pipes.lists.formats.source import Source, decoded
from dali_pipes.lists.listing import Listing
from dali_pipes.lists.locate import inside


class ListedRow(NamedTuple):
    """A row of a list to write."""

    path: str
    frames: int  # 0 is not written
    label: int
    span: Span = WHOLE

    def as_json(self) -> dict:
        """Return the row as a JSON object."""
        keys = {"path": self.path, "label": self.label}
        keys |= {"frames": self.frames} if self.frames else {}
        keys |= {"start": self.span.start} if self.span.start else {}
        return keys | ({"end": self.span.end} if self.span.end != WHOLE.end else {})


def list_text(file: Path, rows: Iterable[ListedRow]) -> str:
    """Return the text of a list.

    Rows are `path label` or `path frames label` lines, as in other projects. If such lines would not be read back
    exactly, because a name contains a line break or a row describes a part of a video, rows are JSON lines.
    """
    rows = list(rows)
    plain = as_lines(f"{row.path} {f'{row.frames} ' if row.frames else ''}{row.label}" for row in rows)
    return plain if _read_back(file, plain) == rows else as_json_lines(row.as_json() for row in rows)


def _read_back(file: Path, text: str) -> list[ListedRow] | None:
    """Parse the text of a list; return its rows, or None if it cannot be read."""
    try:
        source = Source(os.path.abspath(file), decoded(text.encode("utf-8", "surrogateescape")))
        _, annotation = read(source, "auto")
    except DataError:
        return None
    return [ListedRow(row.path, row.frames, row.label, row.span) for row in annotation.rows]


def root_of(listings: Iterable[Listing]) -> str:
    """Return the data.root of written rows: the common base of their paths; empty if there is none."""
    first, *others = listings = list(listings)
    return "" if any(one.base != first.base for one in others) or any(map(_leaves_base, listings)) else first.base


def _leaves_base(listing: Listing) -> bool:
    """Return True if a list has absolute paths outside the base of its relative paths."""
    outside = (path for path in listing.paths if path.startswith("/") and not path.startswith(f"{listing.base}/"))
    return any(not inside(listing.base, path) for path in outside)


def rows_of(listing: Listing, rows: Iterable[int], root: str) -> list[ListedRow]:
    """Return rows of a listing for writing, relative to `data.root=root`; frames are 0 if the list does not give
    them.
    """
    frames_N = np.zeros(len(listing.paths), int) if listing.num_frames_N is None else listing.num_frames_N
    return [
        ListedRow(
            listing.paths[row] if root else listing.path(row),
            int(frames_N[row]),
            int(listing.label_N[row]),
            listing.span(row),
        )
        for row in rows
    ]


def classes_text(names: Iterable[str]) -> str:
    """Return the text of a file of class names: one per line, or a JSON array if a name contains a line break."""
    names = tuple(names)
    plain = as_lines(names)
    try:
        if parse_class_names(CLASSES, decoded(plain.encode("utf-8", "surrogateescape"))) == names:
            return plain
    except DataError:
        pass
    return json.dumps(names, indent=0) + "\n"


def as_lines(lines: Iterable[str]) -> str:
    """Join lines, each with a line feed at its end."""
    return "".join(f"{line}\n" for line in lines)


def as_json_lines(items: Iterable[dict]) -> str:
    """Return one JSON object per line."""
    return as_lines(map(json.dumps, items))
