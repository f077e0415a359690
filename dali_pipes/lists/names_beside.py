"""Class names that lie beside a numbered list, as commands that write lists leave them there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.class_names import Numbers, read_class_names

CLASSES = "classes.txt"


def file_beside(path: str) -> str:
    """Return the file of class names beside a list, `NAME.classes.txt` or `classes.txt`; empty if there is none."""
    stem, _ = os.path.splitext(path)
    files = (f"{stem}.classes.txt", os.path.join(os.path.dirname(path), CLASSES))
    return next(filter(os.path.isfile, files), "")


def refuse_other_numbers(path: str, labels: Iterable[int], names: Sequence[str], origin: str) -> None:
    """Raise DataError if the file beside a numbered list gives the names that `labels` have there other numbers.

    `names` are those that the list is read with, by label, and `origin` is where they are from. Names that are only
    spelled otherwise, or translated, are no other numbers.
    """
    beside = file_beside(path)
    if not beside or not names or (os.path.exists(origin) and os.path.samefile(beside, origin)):
        return
    theirs: tuple[str, ...] = ()
    with suppress(DataError):  # what is no file of class names says nothing of the list
        theirs = read_class_names(beside)
    numbers = Numbers(names)
    for label in labels:
        name = theirs[label] if label < len(theirs) else ""
        if name and (number := numbers.get(name)) is not None and number != label:
            raise DataError(
                path,
                f"is numbered by {beside}, where label {label} is {name!r}, which is label {number} of {origin}; "
                f"set data.class_names={beside}, or move that file away if it does not belong to the list",
            )
