"""The numbers of the classes of a list: those of its own names, or those of a network, by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists.formats import read
from dali_pipes.lists.formats.annotation import Annotation, split_name
from dali_pipes.lists.formats.class_names import Numbers, asked_for
from dali_pipes.lists.formats.source import Source

MOST_NAMED = 5  # classes in a message


def names_by_label(annotation: Annotation, source: Source, data: Data) -> tuple[str, ...]:
    """Return the names by label; none if the source has numbers, and neither it nor data.class_names has names.

    If the source does not order its classes, they are sorted by name over the training split: the same numbers for
    every split, even if classes are missing in it. Raises DataError if the training split is not known.
    """
    named = isinstance(annotation.rows[0].label, str)
    if data.class_names and (named or not annotation.class_names):
        return asked_for(data.class_names)
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
    """Tell whether the rows or the name of their file say that they are for validation or test."""
    stated = source.split or annotation.rows[0].split
    if not stated and source.text is not None:
        stated = os.path.basename(source.path)
    return split_name(stated).startswith(("val", "test"))


def class_numbers(source: str, listed: Sequence[str], used: Iterable[int], network: Sequence[str]) -> np.ndarray:
    """Return for each class of a list its number in a network, int64; −1 for classes that no row has.

    `listed` and `network` are class names by label, `used` the labels of the rows. Names may differ in case, blanks and
    punctuation. Raises DataError, with the difference of both lists, if the network lacks a class that a row has.
    """
    numbers = Numbers(network)
    found = [numbers.get(name) for name in listed]
    if any(found[label] is None for label in used):
        raise DataError(source, difference(listed, network))
    return np.array([-1 if number is None else number for number in found], np.int64)


def difference(listed: Sequence[str], network: Sequence[str]) -> str:
    """Return an error text that names the classes of a list that a network lacks, and the other way round."""
    absent = only_in(network, listed)
    lacks = f", and lacks {some(absent)} of the network" if absent else ""
    return (
        f"has classes that the network does not know: {some(only_in(listed, network))}{lacks}; "
        "rename them, or train a network for them "
        "(model.pretrained=FILE keeps the weights of the classes that have the same name)"
    )


def only_in(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the names without a counterpart among `others`."""
    numbers = Numbers(others)
    return [name for name in names if numbers.get(name) is None]


def some(names: Sequence[str]) -> str:
    """Join the first names, with the count of the others."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(repr, names[:MOST_NAMED])) + more
