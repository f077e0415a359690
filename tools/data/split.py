"""Split a list into training and validation lists, stratified by class. Clips of one recording stay on the same side.

Groups come from a column of a table (--group), else from names (--group-regex), else from the format of the list:
clips of a YouTube video (Kinetics), of a group (UCF101), of a film (HMDB51). Otherwise every video is a group.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from configs import ConfigError
from configs.schema import Data
from dali_pipes.lists.listing import Listing, read_list
from dali_pipes.lists.split import counted, divide, divided_recordings, groups_of, lacking
from engine.outputs import add_force_argument
from tools.data.arguments import add_reading_arguments, reading, with_names_beside
from tools.data.write_lists import command_outputs, write_lists


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="LIST", help="a table, a list, an annotation file or a folder of classes")
    parser.add_argument("--group", metavar="COLUMN", help="column of a CSV: rows with equal values stay on one side")
    parser.add_argument(
        "--group-regex", metavar="REGEX", default="", help=r"videos stay on one side if it finds the same: 'seq\d+'"
    )
    parser.add_argument("--held-out", type=float, default=0.2, help="fraction of the videos (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for train.list, val.list and classes.txt")
    add_force_argument(parser)
    add_reading_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    if not 0 < arguments.held_out < 1:
        raise ConfigError(f"--held-out: {arguments.held_out:g} is not between 0 and 1")
    if problem := dict(Data(group_regex=arguments.group_regex).problems()).get("group_regex"):
        raise ConfigError(f"--group-regex: {problem}")
    data = with_names_beside(arguments.source, reading(arguments, [arguments.source]))
    listing = read_list(arguments.source, data)
    groups = groups_of(listing, arguments.group, arguments.group_regex)
    sides = divide(listing, groups, arguments.held_out, arguments.seed)
    outputs = command_outputs(arguments, [arguments.source, data.class_names])
    words = write_lists(arguments.out, {name: (listing, rows) for name, rows in sides.items()}, outputs)
    for name, rows in sides.items():
        lost = lacking(listing, rows)
        print(f"{name}: {counted(len(rows), 'video')} of {counted(len({groups[row] for row in rows}), 'group')}{lost}")
    for warning in warnings(listing, sides, groups):
        print(warning)
    print(f"for a recipe: {words}")


def warnings(listing: Listing, sides: dict[str, list[int]], groups: Sequence[str]) -> list[str]:
    """Return a warning if videos on both sides seem to show one recording, unless the groups were given."""
    pairs = divided_recordings(listing, sides) if groups is listing.paths else []
    if not pairs:
        return []
    train, val = pairs[0]
    seen = f"{len(pairs)} videos of val.list are named almost like videos of train.list ({val} and {train})"
    return [f"{seen}; if they show one recording, keep it on one side with --group or --group-regex"]
