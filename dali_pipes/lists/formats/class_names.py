"""Class names: read them from a file, match different spellings, and map them to the labels of a network."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache

import numpy as np

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.annotation import SHOWN_PROBLEMS, nfc_caseless
from dali_pipes.lists.formats.source import Source, read_text

MOST_NAMED = 5  # most classes in a message
MOST_BYTES = 1 << 24  # enough for 100,000 classes with names of 100 bytes
_BETWEEN = r"(?:\s{0,99}[,;:|.)]\s{0,99}|\s{1,99})"  # bounds the time for hostile files
_NUMBERED = re.compile(rf"(?P<number>[0-9]{{1,9}}){_BETWEEN}(?P<name>\S.*)")
_HEADER = re.compile(r"^#|[,;\t]")  # header of a table, if the lines below it are numbered
_NAME_FIRST = re.compile(rf"(?P<name>\S.{{0,999}}?){_BETWEEN}(?P<number>[0-9]{{1,9}})")


def read_class_names(path: str) -> tuple[str, ...]:
    """Read the class names of a file, in the order of labels. Raises DataError if a name occurs twice, or there are
    none.
    """
    if os.path.isfile(path) and os.path.getsize(path) > MOST_BYTES:
        raise DataError(path, f"has {os.path.getsize(path)} bytes, too many for a file of class names")
    return parse_class_names(path, read_text(path))


def parse_class_names(path: str, text: str) -> tuple[str, ...]:
    """Parse class names: one per line, optionally with a header and with numbers from 0 or 1 before or after the names;
    or JSON: an array of names, or an object from names to numbers or from numbers to names.

    Raises DataError about `path` if a name occurs twice, or there is none.
    """
    source = Source(path, text)
    lines = [(line, content.strip()) for line, content in source.lines()]
    if source.first_line[:1] in ("[", "{") and (found := _json_names(source)):
        return _distinct(path, found)
    for pattern in (_NUMBERED, _NAME_FIRST):
        for rows in (lines, lines[1:] if _HEADER.search(source.first_line) else []):
            if numbered := _numbered(rows, pattern):
                return _distinct(path, numbered)
    return _distinct(path, lines)


def _numbered(lines: list[tuple[int, str]], pattern: re.Pattern[str]) -> list[tuple[int, str]]:
    """Return (line, name) in the order of the numbers that `pattern` finds; nothing if they do not number the
    classes.
    """
    numbered = []
    for line, text in lines:
        if not (match := pattern.fullmatch(text)):
            return []
        numbered.append((int(match["number"]), line, match["name"]))
    is_distinct = len({name for *_, name in numbered}) == len(numbered)
    return _by_number(numbered) if is_distinct else []


def _json_names(source: Source) -> list[tuple[int, str]]:
    """Return (line, name) of a JSON array or object; nothing if the text only begins like JSON.

    Raises DataError.
    """
    try:
        parsed = json.loads(source.text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        if source.first_line in ("[", "{"):
            raise DataError(f"{source.path}:1", f"begins like JSON, but is not valid: {error}") from error
        return []
    found = list(enumerate(parsed, start=2))  # as this project writes it, one line per name
    if source.first_line.startswith("["):
        if not all(isinstance(name, str) for _, name in found):
            raise DataError(f"{source.path}:1", "a JSON array of class names must contain only texts")
        return found
    if all(key.isdecimal() and isinstance(name, str) for _, (key, name) in found):
        numbered = [(key, line, name) for line, (key, name) in found]
    else:
        numbered = [(number, line, name) for line, (name, number) in found]
    if not all(str(number).isdecimal() for number, *_ in numbered):
        raise DataError(f"{source.path}:1", "a JSON object must map class names to numbers, or numbers to names")
    names = _by_number([(int(number), line, name) for number, line, name in numbered])
    if not names:
        raise DataError(f"{source.path}:1", f"its classes do not have the numbers 0 to {len(found) - 1}")
    return names


def _by_number(numbered: list[tuple[int, int, str]]) -> list[tuple[int, str]]:
    """Return (line, name) in the order of the numbers, which start at 0 or 1; nothing if they have gaps."""
    numbered = sorted(numbered)
    numbers, count = [number for number, *_ in numbered], len(numbered)
    whole = numbers in (list(range(count)), list(range(1, count + 1)))
    return [(line, name) for _, line, name in numbered] if whole else []


def _distinct(path: str, lines: list[tuple[int, str]]) -> tuple[str, ...]:
    """Return the names. Raises DataError if one occurs twice, or there is none."""
    line_of: dict[str, int] = {}
    for line, name in lines:
        if name in line_of:
            raise DataError(f"{path}:{line}", f"{name!r} names two classes, here and in line {line_of[name]}")
        line_of[name] = line
    if not line_of:
        raise DataError(f"{path}:1", "no class names; expected one per line")
    return tuple(line_of)


def read_configured(path: str) -> tuple[str, ...]:
    """Read the file of data.class_names. Raises DataError about the setting."""
    try:
        return read_class_names(path)
    except DataError as error:
        remedy = "name a text file with a class name a line, by label"
        raise DataError("data.class_names", f"{error}; {remedy}") from None


class Numbers:
    """Maps class names to numbers, ignoring blanks, underscores, punctuation and case. Errors name their `file`."""

    def __init__(self, names: Sequence[str], file: str = ""):
        self._names, self._of_file = names, f" of {file}" if file else ""
        self._unknown: dict[str, str] = {}  # error messages by name
        self._exact = {name: number for number, name in enumerate(names)}
        squeezed = [letters_and_digits(name) for name in names]
        uses = Counter(squeezed)
        self._squeezed = {key: number for number, key in enumerate(squeezed) if key and uses[key] == 1}

    def get(self, name: str) -> int | None:
        """Return the number of a class, or None if there is no such class."""
        return self._exact.get(name, self._squeezed.get(letters_and_digits(name)))

    def of(self, name: str) -> int:
        """Return the number of a class. Raises ValueError if there is no such class."""
        number = self.get(name)
        if number is None:
            raise ValueError(self._refusal(name[:80]))
        return number

    def _refusal(self, name: str) -> str:
        """Return the error text for an unknown name; only for the first few, search for a similar name, which is
        slow.
        """
        if name not in self._unknown:
            near = get_close_matches(name, self._names, 1) if len(self._unknown) < SHOWN_PROBLEMS else []
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self._unknown[name] = f"class {name!r} is not among the {len(self._names)} classes{self._of_file}{hint}"
        return self._unknown[name]


@lru_cache(maxsize=4096)
def letters_and_digits(name: str) -> str:
    """Return the letters and digits of a name, without case: equal for `air drumming` and `Air_Drumming`."""
    return "".join(filter(str.isalnum, nfc_caseless(name)))


def class_numbers(source: str, listed: Sequence[str], used: Iterable[int], network: Sequence[str]) -> np.ndarray:
    """Return the network's label of each class of a list, int64; −1 for classes without rows.

    `listed` and `network` are class names by label, `used` the labels of the rows. Names may differ in case, blanks and
    punctuation. Raises DataError, with the difference of both lists, if the network lacks a used class, or if two
    classes of the list match the same class of the network.
    """
    numbers = Numbers(network)
    found = [numbers.get(name) for name in listed]
    if any(found[label] is None for label in used):
        raise DataError(source, difference(listed, network))
    name_of: dict[int | None, str] = {}
    for label in used:
        if (other := name_of.setdefault(found[label], listed[label])) != listed[label]:
            raise DataError(
                source, f"its classes {other!r} and {listed[label]!r} are one of the network; give them one name"
            )
    return np.array([-1 if number is None else number for number in found], np.int64)


def difference(listed: Sequence[str], network: Sequence[str]) -> str:
    """Return an error text with the classes that only the list has, and those that only the network has."""
    absent = only_in(network, listed)
    lacks = f", and lacks {some(absent)} of the network" if absent else ""
    return (
        f"has classes that the network does not know: {some(only_in(listed, network))}{lacks}; "
        "rename them, or train a network for them "
        "(model.pretrained=FILE keeps the weights of the classes that have the same name)"
    )


def alike(names: Sequence[str]) -> list[str]:
    """Return the first names that differ only in case, Unicode form, blanks or punctuation; empty if there are none."""
    same: dict[str, list[str]] = {}
    for name in names:
        same.setdefault(letters_and_digits(name) or name, []).append(name)
    return next((group for group in same.values() if len(group) > 1), [])


def only_in(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the names without a counterpart among `others`."""
    numbers = Numbers(others)
    return [name for name in names if numbers.get(name) is None]


def some(names: Sequence[str]) -> str:
    """Join the first names for a message, with the number of the others."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(repr, names[:MOST_NAMED])) + more
