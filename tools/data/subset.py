"""Make a small dataset of a large one: a few videos of every class, the same for the same seed.

Keeps the numbers and names of the classes. Opens no video.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from pathlib import Path

from configs.cli import at_least
from dali_pipes import DataError
from dali_pipes.lists.listing import Listing, read_list
from engine.outputs import add_force_argument
from tools.data.arguments import add_reading_arguments, reading, with_names_beside
from tools.data.write_lists import command_outputs, name_of, write_lists


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="LIST", help="a list, an annotation file or a folder of classes")
    parser.add_argument(
        "--per-class", type=at_least(1), required=True, metavar="N", help="videos of each class, at most"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for the lists")
    add_force_argument(parser)
    add_reading_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    data = reading(arguments, arguments.sources)
    chosen, read = {}, [*arguments.sources]
    for source in arguments.sources:
        if name_of(source) in chosen:
            raise DataError(source, f"its list would have the name of another, {name_of(source)}.list; make it alone")
        named = with_names_beside(source, data)
        read.append(named.class_names)
        listing = read_list(source, named)
        chosen[name_of(source)] = listing, choose(listing, arguments.per_class, arguments.seed)
    words = write_lists(arguments.out, chosen, command_outputs(arguments, read))
    for name, (listing, rows) in chosen.items():
        print(f"{arguments.out / name}.list: {len(rows)} of {len(listing.samples)} videos")
    print(f"for a recipe: {words}")


def choose(listing: Listing, per_class: int, seed: int) -> list[int]:
    """Choose up to `per_class` rows of every class, in the order of the list, which does not change the choice."""
    rows_of = defaultdict(list)
    for row in sorted(listing.samples.tolist(), key=listing.paths.__getitem__):
        rows_of[int(listing.label_N[row])].append(row)
    chance = random.Random(seed)
    return sorted(row for _, rows in sorted(rows_of.items()) for row in chance.sample(rows, min(per_class, len(rows))))
