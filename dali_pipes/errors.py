"""The error a user sees when data cannot be used, and a record of each video that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")


class DataError(Exception):
    """Data that cannot be used.

    `path` is the file, `file:line`, setting or step that the error is about; `reason` says what was seen and what
    would work. The message is both: `path: reason`.
    """

    def __init__(self, path: str | os.PathLike, reason: str):
        super().__init__(path, reason)
        self.path = os.fspath(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"

    def reason_for(self, path: str) -> str:
        """Return the reason alone if the error is about `path`, else the whole message."""
        return self.reason if self.path == path else str(self)


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
