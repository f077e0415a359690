"""The error for unusable files of weights, and helpers that quote their content."""

from collections.abc import Iterable


class CheckpointError(Exception):
    """A file of weights is unusable; the message names the file, what was found in it, and what would work."""


def printable(value: object, most: int = 80) -> str:
    """Quote a value from a file on one line, without control characters, with at most `most` characters."""
    text = value if isinstance(value, str) else type(value).__name__
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:most])
    return shown + ("..." if len(text) > most else "")


def some(names: Iterable[object], most: int = 5) -> str:
    """Join the first `most` names, with the number of the others."""
    texts = [printable(name, 120) for name in names]  # a tensor's name with two shapes is longer than 80
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
