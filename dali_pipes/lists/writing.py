"""Text of lists and class names that the project reads back exactly."""

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
        """Return the keys of a line of JSON."""
        keys = {"path": self.path, "label": self.label}
        keys |= {"frames": self.frames} if self.frames else {}
        keys |= {"start": self.span.start} if self.span.start else {}
        return keys | ({"end": self.span.end} if self.span.end != WHOLE.end else {})


def list_text(file: Path, rows: Iterable[ListedRow]) -> str:
    """Return the text of a list.

    Rows are `path label` or `path frames label` lines, as in other projects. If such lines would not be read back
    exactly, because a name holds a line break or a row is about a part of a video, rows are JSON objects, one a line.
    """
    rows = list(rows)
    plain = as_lines(f"{row.path} {f'{row.frames} ' if row.frames else ''}{row.label}" for row in rows)
    return plain if _read_back(file, plain) == rows else as_json_lines(row.as_json() for row in rows)


def _read_back(file: Path, text: str) -> list[ListedRow] | None:
    """Return the rows that a list of this text would have, or None if it could not be read."""
    try:
        source = Source(os.path.abspath(file), decoded(text.encode("utf-8", "surrogateescape")))
        _, annotation = read(source, "auto")
    except DataError:
        return None
    return [ListedRow(row.path, row.frames, row.label, row.span) for row in annotation.rows]


def root_of(listings: Iterable[Listing]) -> str:
    """Return the data.root for written rows of listings: what their paths start from; empty if some lie elsewhere."""
    first, *others = listings = list(listings)
    return "" if any(one.base != first.base for one in others) or any(map(_leaves_base, listings)) else first.base


def _leaves_base(listing: Listing) -> bool:
    """Tell whether a list names absolute paths outside the folder that its relative paths start from."""
    outside = (path for path in listing.paths if path.startswith("/") and not path.startswith(f"{listing.base}/"))
    return any(not inside(listing.base, path) for path in outside)


def rows_of(listing: Listing, rows: Iterable[int], root: str) -> list[ListedRow]:
    """Return some rows of a listing, to be read with `data.root=root`; 0 frames if the list does not give them."""
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
    """Return the text of a file of class names: one a line, or a JSON array if a name does not fit in a line."""
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
    """Return one JSON object a line."""
    return as_lines(map(json.dumps, items))
