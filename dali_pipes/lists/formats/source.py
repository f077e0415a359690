"""A source of rows: a list file with its text, or a folder, from a path or a URL.

`source:train` selects one split of a source that contains several.
"""

from __future__ import annotations

import difflib
import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.signatures import binary_kind
from dali_pipes.storage.objects import GONE, absolute, is_url
from dali_pipes.storage.opening import read_all

# validate, training, trainlist01, train_split_1; but not latest, and not the size in val_256
_SPLIT = re.compile(r"(?<![a-z])(train|val|test)(?:ing|idation|idate|id|list|_split)?(?:[-_]?0*([1-9])(?![0-9]))?")


@dataclass(frozen=True)
class Source:
    """A list file with its text, or a folder."""

    path: str  # absolute
    text: str | None  # None: a folder
    split: str = ""  # the selected one of several splits; empty if none is selected

    @classmethod
    def open(cls, place: str) -> Source:
        """Open a list or a folder by its path or URL, optionally with `:split` at the end. Raises DataError."""
        refuse_missing(place)
        path, split = split_of(absolute(place))
        split = split_name(split) or split
        if is_url(path):
            return cls(path, text_of(path, _read_object(path)), split)
        if os.path.isdir(path):
            return cls(path, None, split)
        return cls(path, read_text(path), split)

    @property
    def split_in_name(self) -> str:
        """Return the split according to the file name; empty if it names none, and for a folder."""
        return "" if self.text is None else split_name(os.path.basename(self.path))

    @property
    def folder(self) -> str:
        """Return the folder of its companion files, such as a file of class names."""
        return self.path if self.text is None else os.path.dirname(self.path)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield (number, line) of the lines that are not blank. Only line feeds end a line: names may contain other
        separators.
        """
        for number, line in enumerate((self.text or "").split("\n"), start=1):
            if line and not line.isspace():
                yield number, line

    @cached_property
    def first_line(self) -> str:
        """Return the first line that is not blank, stripped; empty if there is none."""
        found = re.search(r"\S[^\n]*", self.text or "")
        return found[0].strip() if found else ""


def _read_object(url: str) -> bytes:
    try:
        return read_all(url)
    except DataError as error:
        raise DataError(url, "no such list") if error.reason == GONE else error from error


def split_of(source: str) -> tuple[str, str]:
    """Return a source without its split, and the split: the text after the last colon, if only the text before it
    exists.

    In the URL of a list, a colon in the last component always precedes a split.
    """
    whole, colon, last = source.rpartition(":")
    if is_url(source):
        return (whole, last) if colon and "/" not in last else (source, "")
    if colon and "/" not in last and not os.path.lexists(source) and os.path.lexists(whole):
        return whole, last
    return source, ""


def split_name(text: str) -> str:
    """Return the standard name (train, val, test) of a split or its file; empty if there is none."""
    found = _SPLIT.search(text.lower())
    return found[1] + (found[2] or "") if found else ""


def refuse_missing(place: str) -> None:
    """Raise DataError if a list or folder does not exist. Those in a store are not looked up."""
    path, _ = split_of(absolute(place))
    if not is_url(path) and not os.path.lexists(path):
        raise DataError(path, _missing(path))


def _missing(source: str) -> str:
    """Return the error text for a list that does not exist, with similar existing names."""
    folder, name = os.path.split(source)
    if not os.path.isdir(folder):
        return f"no such list or folder; {folder} does not exist either"
    others = [other for other in os.listdir(folder) if not other.endswith(".scan")]  # folders of scans
    near = difflib.get_close_matches(name, others, n=3)
    return "no such list or folder" + (f"; {folder} contains {', '.join(near)}" if near else "")


def companion(source: Source, name: str) -> str:
    """Return the path of a required file in the folder of a list. Raises DataError if it is missing."""
    path = os.path.join(source.folder, name)
    if not os.path.isfile(path):
        raise DataError(f"{source.path}:1", f"needs {name} in the same folder, where it is not")
    return path


def read_text(path: str) -> str:
    """Read a list or one of its companion files. Raises DataError if it is not a text file."""
    if not os.path.isfile(path):  # a device or a pipe may never end
        raise DataError(path, "neither a file nor a folder" if os.path.lexists(path) else "no such file")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror}") from error
    return text_of(path, content)


def text_of(path: str, content: bytes) -> str:
    """Decode the content of a list. Raises DataError if it is not text."""
    if what := binary_kind(content):
        raise DataError(path, f"is {what}, and not a list; name a list, or a folder with one sub-folder per class")
    try:
        text = decoded(content)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:1", f"not {error.encoding}, which its first bytes announce; save it as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        cause = "it is damaged, or UTF-16 without the byte order mark that says so"
        raise DataError(f"{path}:{line}", f"contains NUL characters: {cause}; save it as UTF-8")
    return text


def decoded(content: bytes) -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark. Undecodable bytes are kept as in Python's file names.

    Lines of the result end with line feeds, also if the file has only carriage returns.
    """
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        text = content.decode("utf-16")
    else:
        text = content.decode("utf-8-sig", "surrogateescape")
    return text if "\n" in text else text.replace("\r", "\n")
