"""The error a user sees when data cannot be used, and a record of each video that cannot be read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")


_SECRET = re.compile(r"((?:pass\w*|pwd|token|secret|key|auth\w*|sig\w*|user\w*)=)[^&/;]*", re.IGNORECASE)


def masked(address: str) -> str:
    """Return an address as it is shown and recorded: without user, password and query; anything else unchanged."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    (authority, *_), (place, *_) = re.split("[/?#]", rest, maxsplit=1), re.split("[?#]", rest, maxsplit=1)
    path, query = place[len(authority) :], rest[len(place) :]
    _, at, host = authority.rpartition("@")
    name, colon, port = host.rpartition(":")
    if colon and not (port.isdigit() or name.startswith("[")):  # a password that holds one of / ? #
        return f"{scheme}://***"
    path = _SECRET.sub(r"\1***", path)
    return f"{scheme}://{'***@' if at else ''}{host}{path}{'?***' if query else ''}"


class DataError(Exception):
    """Data that cannot be used.

    `path` is the file, `file:line`, setting or step that the error is about; `reason` says what was seen and what
    would work. The message is both: `path: reason`. Secrets of an address are masked.
    """

    def __init__(self, path: str | os.PathLike, reason: str):
        self.path = masked(os.fspath(path))
        super().__init__(self.path, reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"

    def reason_for(self, path: str) -> str:
        """Return the reason alone if the error is about `path`, else the whole message."""
        return self.reason if self.path == masked(path) else str(self)


class Unreadable(NamedTuple):
    """A video that could not be read, and why. The reason does not repeat the path."""

    row: int
    path: str
    reason: str


def attempt(function: Callable[..., Result], *arguments: Any) -> Result | DataError:
    """Return what the function returns, or the DataError that it raises."""
    try:
        return function(*arguments)
    except DataError as error:
        return error
