"""Write lists and class names that the project reads back exactly, and the settings with which a recipe reads them."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from dali_pipes import DataError
from dali_pipes.lists.classes import CLASSES
from dali_pipes.lists.formats.source import split_name
from dali_pipes.lists.listing import Listing
from dali_pipes.lists.writing import classes_text, list_text, root_of, rows_of
from engine.outputs import Outputs, refuse_inside


def name_of(source: str) -> str:
    """Return the name for the list of a source: its split, else the name of the source."""
    name = os.path.basename(os.path.abspath(source))
    return split_name(name.rpartition(":")[2]) or os.path.splitext(name)[0]


def common_class_names(listings: Iterable[Listing]) -> tuple[str, ...]:
    """Return the class names of listings, if they have any. Raises DataError if their numbers differ."""
    named = [listing for listing in listings if listing.class_names]
    for listing in named:
        if listing.class_names != named[0].class_names:
            raise DataError(listing.source, f"its classes are not those of {named[0].source}; set --class-names")
    return named[0].class_names if named else ()


def command_outputs(arguments: argparse.Namespace, sources: Iterable[str]) -> Outputs:
    """Return the outputs of a command that reads these sources and `--class-names`."""
    return Outputs([*sources, arguments.class_names], arguments.force)


def write_lists(
    out: Path,
    listings: Mapping[str, tuple[Listing, list[int]]],
    outputs: Outputs,
    more: Mapping[str, str] | None = None,
) -> str:
    """Write `NAME.list` of each listing's rows, the class names, and `more` texts by file name: all or none of them.

    Returns the settings with which a recipe reads the lists. Raises ConfigError if a file is in the way, DataError if
    one cannot be written.
    """
    names = common_class_names(listing for listing, _ in listings.values())
    files = {out / f"{name}.list": pair for name, pair in listings.items()}
    root = root_of(listing for listing, _ in listings.values())
    texts = {file: list_text(file, rows_of(listing, rows, root)) for file, (listing, rows) in files.items()}
    texts |= {out / CLASSES: classes_text(names)} if names else {}
    texts |= {out / name: text for name, text in (more or {}).items()}
    refuse_inside(out, (listing.source for listing, _ in listings.values()), strictly=True)
    try:
        out.mkdir(parents=True, exist_ok=True)
        outputs.write(texts)
    except OSError as error:
        raise DataError(error.filename or out, f"cannot be written: {error.strerror}") from error
    return settings({file: listing for file, (listing, _) in files.items()}, out / CLASSES if names else None)


def by_split(files: Iterable[Path]) -> list[str]:
    """Return the settings for lists whose names contain their split, or for a single list."""
    files = list(files)
    named = {split_name(file.stem).rstrip("0123456789"): file for file in files}
    return [f"data.{split or 'train'}={file}" for split, file in named.items() if split or len(files) == 1]


def settings(listings: dict[Path, Listing], classes: Path | None) -> str:
    """Return the settings for the lists that were written, as words of a shell: `data.root=... data.train=...`."""
    first = next(iter(listings.values()))
    num_classes = len(first.class_names) or 1 + max(int(np.max(listing.label_N)) for listing in listings.values())
    return shlex.join(
        [
            f"data.root={root_of(listings.values())}",
            *by_split(listings),
            *([f"data.class_names={classes}"] if classes else []),
            f"model.num_classes={num_classes}",
        ]
    )
