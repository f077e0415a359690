"""Types and helpers shared by the readers of list formats: rows, formats, and errors with line numbers.

A reader turns a `Source` into rows with paths as the source writes them, and labels as numbers if the source numbers
its classes, else as names. It looks at no video and at no folder of videos.
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
Places = tuple[tuple[str, ...], ...]  # folders, each by its names from the top, in the order of preference


class Span(NamedTuple):
    """A part of a video, in seconds from its first frame: the frames shown at `start` or later, and before `end`."""

    start: float = 0.0
    end: float = math.inf  # to the end of the video

    def __str__(self) -> str:
        return f"{self.start:g} s to {'the end' if self.end == math.inf else f'{self.end:g} s'}"


WHOLE = Span()


class Row(NamedTuple):
    """A video of a source."""

    file: str  # where it was read,
    line: int  # and at which line; 0 for a folder
    path: str
    label: int | str
    frames: int = 0  # as the source says; 0 where it does not
    split: str = ""  # where one source holds several
    span: Span = WHOLE  # the part of the video that the row is about


class Annotation(NamedTuple):
    """All rows of a source, in its order."""

    rows: list[Row]
    class_names: tuple[str, ...] = ()  # by label, where the source itself orders its classes,
    for_all_splits: bool = True  # and whether that order holds for its dataset, or for this source alone
    notes: tuple[str, ...] = ()  # messages for the user about what was left out

    def of_split(self, source: Source) -> list[Row]:
        """Return the rows of the source's split. Raises DataError if there is none, or several and none is named."""
        splits = sorted({row.split for row in self.rows})
        wanted = source.split
        if wanted and wanted not in splits:
            there = ", ".join(filter(None, splits)) or "none by name"
            raise DataError(source.path, f"has no split {wanted}; it has {there}")
        if not wanted and len(splits) > 1:
            there = ", ".join(split or "(none)" for split in splits)
            raise DataError(source.path, f"holds {there}; say which, as in {source.path}:{splits[-1]}")
        return [row for row in self.rows if row.split == wanted] if wanted else self.rows


def nfc(name: str) -> str:
    """Return the same for names that differ only in how Unicode composes their letters (macOS decomposes them)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def nfc_caseless(name: str) -> str:
    """Return the same as `nfc`, and the same for names that differ only in case."""
    return nfc(name).casefold()


@dataclass(frozen=True)
class Format:
    """A list format: recognise it, read it, find its videos."""

    recognises: Callable[[Source], bool]
    read: Callable[[Source], Annotation]
    of_folder: bool = False  # the source is a folder, and not a file
    suffix: str = ""  # of the files, where the format names them without
    places: Callable[[Row], Places] | None = None  # the folders that a row's file may be in; None: as it is written
    folder_key: Callable[[str], str] = nfc  # folders with equal keys count as the same
    name_key: Callable[[str], str] = nfc  # and so do files
    origin: Callable[[str], str] | None = None  # path -> the recording that a clip was cut from


def read_rows(file: str, items: Iterable[tuple[int, Item]], parse: Callable[[int, Item], Row | None]) -> list[Row]:
    """Return the rows that `parse` makes of numbered items; None leaves one out.

    Raises DataError naming the lines at which `parse` raised ValueError, or that there is no row.
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
    """Raise the first of the problems, if there are any, followed by a few more."""
    if problems:
        problems = list({str(problem): problem for problem in problems}.values())
        more = len(problems) - SHOWN_PROBLEMS
        others = [*map(str, problems[1:SHOWN_PROBLEMS]), *([f"... and {more} more such lines"] if more > 0 else [])]
        raise DataError(problems[0].path, "\n".join([problems[0].reason, *others]))


def number(text: str, what: str, limit: int = LABEL_LIMIT) -> int:
    """Parse a whole number of at least 0. Raises ValueError, in which `what` names the number."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{what} {text[:40]!r} is not a whole number of at least 0")
    value = int(text) if len(text) <= 10 else limit
    if value >= limit:
        raise ValueError(f"{what} {text[:20]} is too large")
    return value
