"""Names of classes: read from a file, and found by name however a dataset's mirror has spelled it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.annotation import SHOWN_PROBLEMS, Source, nfc_caseless, read_text

MOST_BYTES = 1 << 24  # a name of 100 bytes for each of 100,000 classes fits
_NUMBERED = re.compile(r"([0-9]{1,9})[\s,]+(\S.*)$")


def read_class_names(path: str) -> tuple[str, ...]:
    """Read the class names of a file, by label. Raises DataError if a name occurs twice, or the file has none."""
    if os.path.isfile(path) and os.path.getsize(path) > MOST_BYTES:
        raise DataError(path, f"has {os.path.getsize(path)} bytes, too many for a file of class names")
    return parse_class_names(path, read_text(path))


def parse_class_names(path: str, text: str) -> tuple[str, ...]:
    """Parse class names: one a line, which may start with numbers from 0 or from 1, or a JSON array of texts.

    Raises DataError, which names `path`, if a name occurs twice, or there is none.
    """
    lines = [(line, content.strip()) for line, content in Source(path, text).lines()]
    if lines and lines[0][1] == "[":
        lines = [(number, name) for number, name in enumerate(_json_array(path, text), start=2)]
        return _distinct(path, lines)
    found = [_NUMBERED.match(name) for _, name in lines]
    if all(found):
        numbered = sorted((int(match[1]), line, match[2]) for (line, _), match in zip(lines, found, strict=True))
        if [number for number, *_ in numbered] in (list(range(len(lines))), list(range(1, len(lines) + 1))):
            lines = [(line, name) for _, line, name in numbered]
    return _distinct(path, lines)


def _json_array(path: str, text: str) -> list[str]:
    """Parse a JSON array of texts. Raises DataError."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:1", f"begins as a JSON array, but is none: {error}") from error
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}:1", "a JSON array of class names must hold texts alone")
    return names


def _distinct(path: str, lines: list[tuple[int, str]]) -> tuple[str, ...]:
    """Return the names of (line, name). Raises DataError if one occurs twice, or there is none."""
    line_of: dict[str, int] = {}
    for line, name in lines:
        if name in line_of:
            raise DataError(f"{path}:{line}", f"{name!r} names two classes, here and in line {line_of[name]}")
        line_of[name] = line
    if not line_of:
        raise DataError(f"{path}:1", "no class names; expected one a line")
    return tuple(line_of)


def asked_for(path: str) -> tuple[str, ...]:
    """Read the file that data.class_names gives. Raises DataError, which names the setting."""
    try:
        return read_class_names(path)
    except DataError as error:
        remedy = "name a text file with a class name a line, by label"
        raise DataError("data.class_names", f"{error}; {remedy}") from None


class Numbers:
    """Maps class names to numbers. Blanks, underscores, punctuation and case may differ."""

    def __init__(self, names: Sequence[str]):
        self._names = names
        self._unknown: dict[str, str] = {}  # messages by name
        self._exact = {name: number for number, name in enumerate(names)}
        squeezed = [squeeze(name) for name in names]
        uses = Counter(squeezed)
        self._squeezed = {key: number for number, key in enumerate(squeezed) if key and uses[key] == 1}

    def get(self, name: str) -> int | None:
        """Return the number of a class, None if there is no such class."""
        return self._exact.get(name, self._squeezed.get(squeeze(name)))

    def of(self, name: str) -> int:
        """Return the number of a class. Raises ValueError if there is no such class."""
        number = self.get(name)
        if number is None:
            raise ValueError(self._refusal(name[:80]))
        return number

    def _refusal(self, name: str) -> str:
        """Return the message for an unknown name; only the first few get the slow search for a similar name."""
        if name not in self._unknown:
            near = get_close_matches(name, self._names, 1) if len(self._unknown) < SHOWN_PROBLEMS else []
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self._unknown[name] = f"class {name!r} is not among the {len(self._names)} classes{hint}"
        return self._unknown[name]


@lru_cache(maxsize=4096)
def squeeze(name: str) -> str:
    """Return the letters and digits of a name, without case: the same for `air drumming` and `Air_Drumming`."""
    return "".join(filter(str.isalnum, nfc_caseless(name)))
