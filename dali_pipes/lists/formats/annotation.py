"""Types and helpers shared by the readers of list formats: rows, formats, and errors with line numbers.

A reader turns a `Source` into rows. Paths are as written in the source; labels are numbers if the source numbers its
classes, otherwise names. It does not access videos or their folders.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.source import Source

LABEL_LIMIT = 2**31  # labels are stored as int32
FRAMES_LIMIT = 2**31
SHOWN_PROBLEMS = 10

Item = TypeVar("Item")
Places = tuple[tuple[str, ...], ...]  # folders in the order of preference, each as a tuple of path components


class Span(NamedTuple):
    """A part of a video: the frames with times from `start` up to but not including `end`, in seconds from the first
    frame.
    """

    start: float = 0.0
    end: float = math.inf  # inf: to the end of the video

    def __str__(self) -> str:
        return f"{self.start:g} s to {'the end' if self.end == math.inf else f'{self.end:g} s'}"


WHOLE = Span()


class Row(NamedTuple):
    """A video of a source."""

    file: str  # the list file
    line: int  # the line in it; 0 for a folder
    path: str
    label: int | str
    frames: int = 0  # number of frames according to the source; 0 if unknown
    split: str = ""  # if a source contains several
    span: Span = WHOLE  # the part of the video that the row describes


class Annotation(NamedTuple):
    """All rows of a source, in its order."""

    rows: list[Row]
    class_names: tuple[str, ...] = ()  # by label, if the source itself orders its classes
    for_all_splits: bool = True  # True if that order holds for the whole dataset, not only for this source
    notes: tuple[str, ...] = ()  # messages for the user about omitted items

    def of_split(self, source: Source) -> list[Row]:
        """Return the rows of the source's split. Raises DataError if it has none, or several and none is selected."""
        splits = sorted({row.split for row in self.rows})
        wanted = source.split
        if wanted and wanted not in splits:
            there = ", ".join(filter(None, splits)) or "none by name"
            raise DataError(source.path, f"has no split {wanted}; it has {there}")
        if not wanted and len(splits) > 1:
            there = ", ".join(split or "(none)" for split in splits)
            raise DataError(source.path, f"contains {there}; say which, as in {source.path}:{splits[-1]}")
        return [row for row in self.rows if row.split == wanted] if wanted else self.rows


def nfc(name: str) -> str:
    """Return the name in Unicode form NFC (macOS decomposes letters)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def nfc_caseless(name: str) -> str:
    """Return the name in Unicode form NFC, without case."""
    return nfc(name).casefold()


@dataclass(frozen=True)
class Format:
    """A list format: how to recognise it, read it, and find its videos."""

    recognises: Callable[[Source], bool]
    read: Callable[[Source], Annotation]
    of_folder: bool = False  # the source is a folder, not a file
    suffix: str = ""  # of the files, if the format omits it
    places: Callable[[Row], Places] | None = None  # the folders in which a row's file may be; None: as written
    folder_key: Callable[[str], str] = nfc  # folders with equal keys are the same
    name_key: Callable[[str], str] = nfc  # files with equal keys are the same
    origin: Callable[[str], str] | None = None  # path -> name of the recording from which a clip was cut


def read_rows(file: str, items: Iterable[tuple[int, Item]], parse: Callable[[int, Item], Row | None]) -> list[Row]:
    """Return the rows that `parse` makes of numbered items; items for which it returns None are omitted.

    Raises DataError with the lines at which `parse` raised ValueError, or if there is no row.
    """
    rows, problems = [], []
    for line, item in items:
        try:
            row = parse(line, item)
        except ValueError as problem:
            problems.append(DataError(f"{file}:{line}", str(problem)))
        else:
            rows += [row] if row else []
    refuse(problems)
    if not rows:
        raise DataError(f"{file}:1", "the list is empty; expected a line for each video, such as `path label`")
    return rows


def refuse(problems: list[DataError]) -> None:
    """Raise the first of the problems, if any, with the text of a few more."""
    if problems:
        problems = list({str(problem): problem for problem in problems}.values())
        more = len(problems) - SHOWN_PROBLEMS
        others = [*map(str, problems[1:SHOWN_PROBLEMS]), *([f"... and {more} more such lines"] if more > 0 else [])]
        raise DataError(problems[0].path, "\n".join([problems[0].reason, *others]))


def number(text: str, what: str, limit: int = LABEL_LIMIT) -> int:
    """Parse a whole number of at least 0. Raises ValueError with the name `what` of the number."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{what} {text[:40]!r} is not a whole number of at least 0")
    value = int(text) if len(text) <= 10 else limit
    if value >= limit:
        raise ValueError(f"{what} {text[:20]} is too large")
    return value
