"""Number the classes of a list as a network numbers them, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.class_names import Numbers

MOST_NAMED = 5  # classes in a message


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
