"""The error a user sees when a file of weights cannot be used, and how it names what such a file holds."""

from collections.abc import Iterable


class CheckpointError(Exception):
    """A file of weights that cannot be used: names the file, what was seen, and what would work."""


def printable(said: object, most: int = 80) -> str:
    """What a file says, fit for one line of a message. Files are not trusted with line breaks, length or nesting."""
    text = said if isinstance(said, str) else type(said).__name__
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:most])
    return shown + ("..." if len(text) > most else "")


def some(names: Iterable[object], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    texts = [printable(name) for name in names]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
