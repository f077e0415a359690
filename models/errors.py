"""The error for files of weights that cannot be used, and helpers that quote the content of such files."""

from collections.abc import Iterable


class CheckpointError(Exception):
    """A file of weights cannot be used; the message names the file, what was found in it, and what would work."""


def printable(value: object, most: int = 80) -> str:
    """Quote a value from a file on one line: without control characters, and at most `most` characters long."""
    text = value if isinstance(value, str) else type(value).__name__
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:most])
    return shown + ("..." if len(text) > most else "")


def some(names: Iterable[object], most: int = 5) -> str:
    """List the first `most` names, and the number of the others."""
    texts = [printable(name, 120) for name in names]  # a tensor's name with two shapes is longer than 80
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
