"""Write lists and class names, and the settings with which a recipe reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dali_pipes import DataError
from dali_pipes.lists.formats.annotation import split_name
from dali_pipes.lists.listing import Listing
from engine.files import replace_file

CLASSES = "classes.txt"


def name_of(source: str) -> str:
    """Return the name for the list of a source: its split, else the name of the source."""
    name = os.path.basename(os.path.abspath(source))
    return split_name(name.rpartition(":")[2]) or os.path.splitext(name)[0]


def writable(path: str) -> bool:
    """Tell whether a line of a list can hold a path: UTF-8, without line breaks and without blanks at its ends."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return path == path.strip().strip("\ufeff") and "\n" not in path


def write_list(file: Path, listing: Listing, rows: Iterable[int]) -> None:
    """Write some rows as `path label` lines, or as `path frames label` where the listing has frame counts."""
    counts = listing.num_frames_N
    middle = [""] * len(listing.paths) if counts is None else [f"{count} " for count in counts]
    write_lines(file, (f"{listing.paths[row]} {middle[row]}{listing.label_N[row]}" for row in rows))


def write_classes(folder: Path, listings: Iterable[Listing]) -> Path | None:
    """Write the class names of listings, if they have any. Raises DataError if their numbers differ."""
    named = [listing for listing in listings if listing.class_names]
    for listing in named:
        if listing.class_names != named[0].class_names:
            raise DataError(listing.source, f"its classes are not those of {named[0].source}; set --class-names")
    if not named:
        return None
    write_lines(folder / CLASSES, named[0].class_names)
    return folder / CLASSES


def write_json_lines(file: Path, items: Iterable[dict]) -> None:
    """Write one JSON object a line."""
    write_lines(file, (json.dumps(item, ensure_ascii=False) for item in items))


def write_lines(file: Path, lines: Iterable[str]) -> None:
    """Write a text file atomically. Raises DataError if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A name need not be text; what is not becomes the \udcNN that JSON knows.
        replace_file(file, "".join(f"{line}\n" for line in lines), errors="backslashreplace")
    except OSError as error:
        raise DataError(file, f"cannot be written: {error.strerror}") from error


def by_split(files: Iterable[Path]) -> list[str]:
    """Return the settings for lists whose names contain their split."""
    named = {split_name(file.stem).rstrip("0123456789"): file for file in files}
    return [f"data.{split}={file}" for split, file in named.items() if split]


def settings(listings: dict[Path, Listing], classes: Path | None) -> str:
    """Return the settings for the lists that were written: `data.root=... data.train=...`."""
    first = next(iter(listings.values()))
    num_classes = len(first.class_names) or 1 + max(int(np.max(listing.label_N)) for listing in listings.values())
    return " ".join(
        [
            f"data.root={first.base}",
            *by_split(listings),
            *([f"data.class_names={classes}"] if classes else []),
            f"model.num_classes={num_classes}",
        ]
    )
