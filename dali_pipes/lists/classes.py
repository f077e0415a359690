"""Find the class names of a list, by label: its own, those of the training list, of data.class_names, or of a network.

Commands that write lists store the names next to a numbered list. They are used if nothing else names its classes and
there is a name for each; they must not contradict the names in use.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists.formats import read
from dali_pipes.lists.formats.annotation import Annotation, Row
from dali_pipes.lists.formats.class_names import Numbers, class_numbers, read_class_names, read_configured
from dali_pipes.lists.formats.source import Source, split_of
from dali_pipes.storage.objects import absolute

CLASSES = "classes.txt"


def file_beside(path: str) -> str:
    """Return the file of class names next to a list, `NAME.classes.txt` or `classes.txt`; empty if there is none."""
    stem, _ = os.path.splitext(path)
    files = (f"{stem}.classes.txt", os.path.join(os.path.dirname(path), CLASSES))
    return next(filter(os.path.isfile, files), "")


def names_by_label(
    annotation: Annotation, rows: list[Row], source: Source, data: Data, network: tuple[str, ...]
) -> tuple[tuple[str, ...], str]:
    """Return the class names that number `rows`, those of `network` if it is given and rows have names; and a note.

    Empty if rows have numbers, and neither the source, data.class_names nor a file next to the source names them.
    Raises DataError if the training list is needed but unknown, if the network lacks a class, or if names next to a
    numbered list have other numbers.
    """
    named = list(dict.fromkeys(row.label for row in rows if isinstance(row.label, str)))
    names = network if named and network else _of_source(annotation, source, data)
    if not named:
        labels = {row.label for row in rows}
        origin = data.class_names or ("the network" if network else "the list")
        _refuse_other_numbers(source.path, labels, names or network, origin)
        return (names, "") if names else _beside(source.path, labels, data, network)
    if network:
        class_numbers(source.path, named, range(len(named)), network)  # raises for classes that are not among them
    return names, ""


def _read_beside(path: str) -> tuple[str, tuple[str, ...]]:
    """Return the file next to a list and its class names; none if it is missing, or has no class names."""
    file = file_beside(path)
    with suppress(DataError):  # a file that no command of this project wrote
        return file, read_class_names(file) if file else ()
    return file, ()


def _beside(path: str, labels: set[int], data: Data, network: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return the class names next to a numbered list, and a note about them; empty names if they are not used.

    They are used if they are those of the network. Without a network, they are used for a training list, if there is
    one for each label: the labels of another list do not show the number of classes.
    """
    file, names = _read_beside(path) if os.path.isfile(path) else ("", ())
    if network:
        same = len(names) == len(network) and list(map(Numbers(network).get, names)) == list(range(len(names)))
        return (network, "") if same else ((), "")
    if not names or (data.train and split_of(absolute(data.train))[0] != path):
        return (), ""
    if len(names) != 1 + max(labels):
        return (), f"class names in {file} not used: {len(names)} names, but labels up to {max(labels)}"
    return names, f"class names of {file}"


def _of_source(annotation: Annotation, source: Source, data: Data) -> tuple[str, ...]:
    """Return the names by label; empty if the source has numbers, and neither it nor data.class_names has names.

    If the source does not order its classes, those of the training split are sorted by name: every split gets the same
    numbers, even if classes are missing in it. Raises DataError if the training split is unknown.
    """
    named = isinstance(annotation.rows[0].label, str)
    if data.class_names and (named or not annotation.class_names):
        return read_configured(data.class_names)
    if not named or (annotation.class_names and annotation.for_all_splits):
        return annotation.class_names
    training = Source.open(data.train) if data.train else source
    if training.path != source.path:
        _, annotation = read(training, data.format)
    rows = [row for row in annotation.rows if row.split.startswith("train")]
    if not rows and (data.train or not _is_held_out(annotation, source)):
        rows = annotation.of_split(training)
    if not rows or not isinstance(rows[0].label, str):
        raise DataError(
            f"{source.path}:1",
            "names classes, and the training list would number them; "
            "set data.train to it, or data.class_names to a file with all names",
        )
    return annotation.class_names or tuple(sorted({row.label for row in rows}))


def _is_held_out(annotation: Annotation, source: Source) -> bool:
    """Return True if the rows or the name of their file say that they are for validation or test."""
    stated = source.split or annotation.rows[0].split or source.split_in_name
    return stated.startswith(("val", "test"))


def _refuse_other_numbers(path: str, labels: Iterable[int], names: Sequence[str], origin: str) -> None:
    """Raise DataError if the file next to a numbered list numbers the names of `labels` differently.

    `names` are the names in use, by label, and `origin` is their source. Other spellings or translations of a name are
    no difference.
    """
    beside, theirs = _read_beside(path) if names else ("", ())
    if not theirs or (os.path.exists(origin) and os.path.samefile(beside, origin)):
        return
    numbers = Numbers(names)
    for label in sorted(labels):
        name = theirs[label] if label < len(theirs) else ""
        if name and (number := numbers.get(name)) is not None and number != label:
            raise DataError(
                path,
                f"is numbered by {beside}, where label {label} is {name!r}, which is label {number} of {origin}; "
                f"set data.class_names={beside}, or move that file away if it does not belong to the list",
            )
