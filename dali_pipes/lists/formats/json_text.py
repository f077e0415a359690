"""Parse the JSON of lists: an object on one line, or the items of a whole file with their lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.source import Source

EXAMPLE = "a JSON object such as {'path': ..., 'label': ...}"


def json_object(line: str) -> dict:
    """Parse the JSON object on a line. Raises ValueError."""
    try:
        value = _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected {EXAMPLE}, got {line.strip()[:40]!r}")
    return value


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Convert the pairs of a JSON object to a dictionary. Raises ValueError if a key occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key occurs twice among {', '.join(key for key, _ in pairs)}")
    return found


_BLANKS = re.compile(r"[ \t\r\n]*")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # a lone surrogate is not valid text
_DECODER = json.JSONDecoder(object_pairs_hook=_distinct)


def items(source: Source) -> Iterator[tuple[int, object]]:
    """Yield (line, value) for each item of the source's array, or (line, (key, value)) for its object.

    Raises DataError with the line if the JSON is truncated or invalid.
    """
    line, counted = 1, 0
    has_halves = _HALF.search(source.text) is not None
    try:
        for start, item in _items(source.text):
            line += source.text.count("\n", counted, start)
            counted = start
            if has_halves:
                json.dumps(item, ensure_ascii=False).encode("utf-8")
            yield line, item
    except json.JSONDecodeError as error:
        raise DataError(f"{source.path}:{error.lineno}", f"not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source.path}:{line}", f"JSON that cannot be read: {error}") from error


def _items(text: str) -> Iterator[tuple[int, object]]:
    """Yield (position, item) for each item."""
    at = _skip(text, 0)
    closing = {"[": "]", "{": "}"}.get(text[at : at + 1])
    if closing is None:
        raise json.JSONDecodeError("expected an array or an object", text, at)
    at = _skip(text, at + 1)
    while text[at : at + 1] != closing:
        start = at
        item, at = _DECODER.raw_decode(text, at)
        if closing == "}":
            value, at = _DECODER.raw_decode(text, _expect(text, at, ":"))
            item = item, value
        yield start, item
        at = _skip(text, at)
        if text[at : at + 1] != closing:
            at = _expect(text, at, ",")
    end = _skip(text, at + 1)
    if end < len(text):
        raise json.JSONDecodeError("more after the end", text, end)


def _skip(text: str, at: int) -> int:
    """Return the next position that is not blank."""
    return _BLANKS.match(text, at).end()


def _expect(text: str, at: int, mark: str) -> int:
    """Return the position after a mark and the blanks around it."""
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise json.JSONDecodeError(f"expected {mark!r}", text, at)
    return _skip(text, at + 1)
