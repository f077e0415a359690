"""The error a user sees when data cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class DataError(Exception):
    """Data that cannot be used: names the file (and line), what was seen, and what would work."""


def attempt(function: Callable[..., Result], *arguments: Any) -> Result | DataError:
    """What the function returns, or the DataError that it raises."""
    try:
        return function(*arguments)
    except DataError as error:
        return error
