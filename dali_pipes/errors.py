"""The error for data that cannot be used, and the record of a video that cannot be read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")


_SECRET = re.compile(r"((?:pass\w*|pwd|token|secret|key|auth\w*|sig\w*|user\w*)=)[^&/;]*", re.IGNORECASE)


def masked(address: str) -> str:
    """Return an address without user, password and query, for messages and records; other text is unchanged."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    (authority, *_), (place, *_) = re.split("[/?#]", rest, maxsplit=1), re.split("[?#]", rest, maxsplit=1)
    path, query = place[len(authority) :], rest[len(place) :]
    _, at, host = authority.rpartition("@")
    name, colon, port = host.rpartition(":")
    if colon and not (port.isdigit() or name.startswith("[")):  # a password that contains / ? or #
        return f"{scheme}://***"
    path = _SECRET.sub(r"\1***", path)
    return f"{scheme}://{'***@' if at else ''}{host}{path}{'?***' if query else ''}"


class DataError(Exception):
    """Data that cannot be used.

    `path` is the file, `file:line`, setting or step with the error; `reason` says what was found and what would work.
    The message is `path: reason`. Secrets in an address are masked.
    """

    def __init__(self, path: str | os.PathLike, reason: str):
        self.path = masked(os.fspath(path))
        super().__init__(self.path, reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"

    def reason_for(self, path: str) -> str:
        """Return only the reason if the error is about `path`, otherwise the whole message."""
        return self.reason if self.path == masked(path) else str(self)


class Inaccessible(DataError):
    """A file that the system does not give now, for example for lack of a permission. Its content is not the cause."""


class Unreadable(NamedTuple):
    """A video that could not be read, with the reason. The reason does not repeat the path."""

    row: int
    path: str
    reason: str


def attempt(function: Callable[..., Result], *arguments: Any) -> Result | DataError:
    """Return what the function returns, or the DataError that it raises."""
    try:
        return function(*arguments)
    except DataError as error:
        return error
