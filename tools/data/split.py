"""Split a list into training and validation lists. Clips of one recording stay on the same side.

Groups come from a column of a table (--group), else from the format of the list: clips of a YouTube video (Kinetics),
of a group (UCF101), of a film (HMDB51). Otherwise every video is a group.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path

from configs import ConfigError
from dali_pipes import DataError
from dali_pipes.lists.formats import FORMATS, tables
from dali_pipes.lists.formats.annotation import Source, read_text
from dali_pipes.lists.listing import Listing, read_list
from engine.outputs import add_force_argument
from tools.data.arguments import add_reading_arguments, reading
from tools.data.write_lists import command_outputs, write_lists


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="LIST", help="a table, a list, an annotation file or a folder of classes")
    parser.add_argument("--group", metavar="COLUMN", help="column of a CSV: rows with equal values stay on one side")
    parser.add_argument("--held-out", type=float, default=0.2, help="fraction of the videos (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for train.list, val.list and classes.txt")
    add_force_argument(parser)
    add_reading_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    if not 0 < arguments.held_out < 1:
        raise ConfigError(f"--held-out: {arguments.held_out:g} is not between 0 and 1")
    listing = read_list(arguments.source, reading(arguments, [arguments.source]))
    groups = groups_of(listing, arguments.group)
    sides = divide(listing, groups, arguments.held_out, arguments.seed)
    outputs = command_outputs(arguments, [arguments.source])
    words = write_lists(arguments.out, {name: (listing, rows) for name, rows in sides.items()}, outputs)
    for name, rows in sides.items():
        print(f"{name}: {len(rows)} videos of {len({groups[row] for row in rows})} groups{lacking(listing, rows)}")
    print(f"for a recipe: {words}")


def groups_of(listing: Listing, column: str | None) -> Sequence[Hashable]:
    """Return the group of each row. Raises DataError if the list has no such column."""
    if column is not None:
        return tables.column(Source(listing.source, read_text(listing.source)), column)
    origin = FORMATS[listing.format].origin
    return listing.paths if origin is None else [origin(path) for path in listing.paths]


def divide(listing: Listing, groups: Sequence[Hashable], held_out: float, seed: int) -> dict[str, list[int]]:
    """Return the rows of each side, sorted by path. Raises DataError if one side would be empty.

    Whole groups, in an order that the seed determines, are held out until the fraction is reached.
    """
    members = defaultdict(list)
    for row in listing.distinct.tolist():
        members[groups[row]].append(row)
    names = sorted(members)
    random.Random(seed).shuffle(names)
    sides: dict[str, list[int]] = {"train": [], "val": []}
    for name in names:
        sides["val" if len(sides["val"]) < held_out * len(listing.distinct) else "train"] += members[name]
    if not all(sides.values()):
        raise DataError(listing.source, f"{len(names)} groups of videos are too few to divide")
    return {side: sorted(rows, key=listing.paths.__getitem__) for side, rows in sides.items()}


def lacking(listing: Listing, rows: list[int]) -> str:
    """Describe the classes of which a side has no video."""
    lost = sorted(set(listing.label_N.tolist()) - set(listing.label_N[rows].tolist()))
    names = [listing.class_names[label] if listing.class_names else str(label) for label in lost[:5]]
    return f", none of {len(lost)} classes: {', '.join(names)}{' ...' if len(lost) > 5 else ''}" if lost else ""
