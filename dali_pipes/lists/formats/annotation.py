"""Types and helpers shared by the readers of list formats: sources, rows, formats, and errors with line numbers.

A reader turns a `Source` into rows with paths as the source writes them, and labels as numbers if the source numbers
its classes, else as names. It looks at no video and at no folder of videos.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

from dali_pipes.errors import DataError

LABEL_LIMIT = 2**31  # labels are stored as int32
FRAMES_LIMIT = 2**31
SHOWN_PROBLEMS = 10

# validate, training, trainlist01, train_split_1; but not latest, and not the size in val_256
_SPLIT = re.compile(r"(?<![a-z])(train|val|test)(?:ing|idation|idate|id|list|_split)?(?:[-_]?0*([1-9])(?![0-9]))?")

Item = TypeVar("Item")
Places = tuple[tuple[str, ...], ...]  # folders, each by its names from the top, in the order of preference


@dataclass(frozen=True)
class Source:
    """A list file with its text, or a folder."""

    path: str  # absolute
    text: str | None  # None: a folder

    @property
    def folder(self) -> str:
        """The folder of its companion files, such as a file of class names."""
        return self.path if self.text is None else os.path.dirname(self.path)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield (number, line) of the lines that are not blank. Only line feeds end one: names may hold others."""
        for number, line in enumerate((self.text or "").split("\n"), start=1):
            if line and not line.isspace():
                yield number, line

    @cached_property
    def first_line(self) -> str:
        """The first line that is not blank, without the blanks around it; empty where there is none."""
        found = re.search(r"\S[^\n]*", self.text or "")
        return found[0].strip() if found else ""


class Window(NamedTuple):
    """A part of a video, in seconds from its first frame: the frames shown at `start` or later, and before `end`."""

    start: float = 0.0
    end: float = math.inf  # to the end of the video

    def __str__(self) -> str:
        return f"{self.start:g} s to {'the end' if self.end == math.inf else f'{self.end:g} s'}"


WHOLE = Window()


class Row(NamedTuple):
    """A video of a source."""

    file: str  # where it was read,
    line: int  # and at which line; 0 for a folder
    path: str
    label: int | str
    frames: int = 0  # as the source says; 0 where it does not
    split: str = ""  # where one source holds several
    window: Window = WHOLE  # the part of the video that the row is about


class Annotation(NamedTuple):
    """All rows of a source, in its order."""

    rows: list[Row]
    class_names: tuple[str, ...] = ()  # by label, where the source itself orders its classes,
    for_all_splits: bool = True  # and whether that order holds for its dataset, or for this source alone
    notes: tuple[str, ...] = ()  # messages for the user about what was left out


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


def split_name(text: str) -> str:
    """Return the usual name (train, val, test) of a split or of the file that holds it; empty if it has none."""
    found = _SPLIT.search(text.lower())
    return found[1] + (found[2] or "") if found else ""


def companion(source: Source, name: str) -> str:
    """Return the path of a file that must be in the folder of a list. Raises DataError if it is not there."""
    path = os.path.join(source.folder, name)
    if not os.path.isfile(path):
        raise DataError(f"{source.path}:1", f"needs {name} in the same folder, where it is not")
    return path


def read_text(path: str) -> str:
    """Read a list or a companion file of one. Raises DataError if it is no file, or not text."""
    if not os.path.isfile(path):  # a device or a pipe might never end
        raise DataError(path, "neither a file nor a folder" if os.path.lexists(path) else "no such file")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror}") from error
    return text_of(path, content)


def text_of(path: str, content: bytes) -> str:
    """Return the text of a list with this content. Raises DataError if it is not text."""
    try:
        return decoded(content)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:1", f"not {error.encoding}, which its first bytes announce; save it as UTF-8"
        ) from error


def decoded(content: bytes) -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark. Other bytes are kept as Python keeps them in names of files.

    Lines end with line feeds in the result, also those of a file that has none but carriage returns.
    """
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        text = content.decode("utf-16")
    else:
        text = content.decode("utf-8-sig", "surrogateescape")
    return text if "\n" in text else text.replace("\r", "\n")
