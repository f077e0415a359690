"""The items of a JSON array or object, one at a time, each with the line it starts at, which `json` does not tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from dali_pipes.errors import DataError
from dali_pipes.formats.annotation import Source

_BLANKS = re.compile(r"[ \t\r\n]*")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # of a character beyond 16 bits; alone it is no text
_DECODER = json.JSONDecoder()


def items(source: Source) -> Iterator[tuple[int, object]]:
    """(line, value) for each item of the source's array, (line, (key, value)) for its object.

    Raises DataError with the line where the JSON breaks off or is none.
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
        raise DataError(f"{source.path}:{error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source.path}:{line}: JSON that cannot be read: {error}") from error


def _items(text: str) -> Iterator[tuple[int, object]]:
    """(position, item) for each item."""
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
    """The next place that is not blank."""
    return _BLANKS.match(text, at).end()


def _expect(text: str, at: int, mark: str) -> int:
    """The place after a mark and the blanks around it."""
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise json.JSONDecodeError(f"expected {mark!r}", text, at)
    return _skip(text, at + 1)
