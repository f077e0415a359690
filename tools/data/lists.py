"""Make lists of the existing videos from published annotations, and report missing and duplicate ones.

Writes for each split SPLIT.list (`path label` a line), classes.txt with the class names by label, and left_out.jsonl
with the videos that are not in the lists, and the reasons.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from configs.schema import Data
from dali_pipes import DataError
from dali_pipes.lists import file_status
from dali_pipes.lists.file_status import NO_SUCH_FILE
from dali_pipes.lists.formats import FORMATS
from dali_pipes.lists.listing import Listing, read_list
from dali_pipes.lists.writing import as_json_lines
from engine.outputs import add_force_argument
from tools.data.arguments import add_reading_arguments, reading
from tools.data.write_lists import command_outputs, name_of, write_lists

LEFT_OUT = "left_out.jsonl"
REPEATED = "named before"


@dataclass(frozen=True)
class Split:
    """One split: its rows, and those that are left out of the list."""

    name: str
    listing: Listing
    left_out: dict[int, str]  # reasons by row

    @property
    def kept(self) -> list[int]:
        """The rows that are written to the list."""
        return [row for row in range(len(self.listing.paths)) if row not in self.left_out]

    def dropped(self) -> Iterator[dict]:
        """Yield a record of each row that is left out."""
        for row, reason in self.left_out.items():
            label = int(self.listing.label_N[row])
            yield {"list": self.name, "path": self.listing.path(row), "label": label, "reason": reason}

    def summary(self) -> str:
        """Return the counts of the split in one line."""
        reasons = list(self.left_out.values())
        missing = sum(reason.startswith(NO_SUCH_FILE) for reason in reasons)
        repeated = reasons.count(REPEATED)
        other = len(reasons) - missing - repeated
        line = f"{self.name}: {len(self.listing.paths)} annotated, {len(self.kept)} found, {missing} missing"
        return f"{line}, {other} not to be used, {repeated} duplicate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="an annotation, a list or a folder, one a split")
    parser.add_argument("--out", type=Path, required=True, help="folder for the lists")
    add_force_argument(parser)
    parser.add_argument("--split", nargs="+", default=[""], help="the splits to take of sources that hold several")
    add_reading_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    sources = [f"{source}:{split}" if split else source for source in arguments.sources for split in arguments.split]
    splits = look(sources, reading(arguments, sources))
    for split in splits:
        print(split.summary())
        print("".join(f"    {note}\n" for note in split.listing.notes), end="")
    for one, other in combinations(splits, 2):
        print(overlap(one, other))
    missing = [dropped for split in splits for dropped in split.dropped()]
    listings = {split.name: (split.listing, split.kept) for split in splits}
    outputs = command_outputs(arguments, arguments.sources)
    words = write_lists(arguments.out, listings, outputs, {LEFT_OUT: as_json_lines(missing)})
    print(f"left out {len(missing)} rows, see {arguments.out / LEFT_OUT}")
    print(f"for a recipe: {words}")


def look(sources: list[str], data: Data) -> list[Split]:
    """Read each source and look up its videos, without opening any.

    Raises DataError if a source is invalid, or none of its videos exists.
    """
    splits = []
    for source in sources:
        listing = read_list(source, data)
        splits.append(Split(name_of(source), listing, left_out(listing)))
        if not splits[-1].kept:
            first = next(iter(splits[-1].left_out.values()))
            raise DataError(
                source,
                f"none of its {len(listing.paths)} videos can be used: {listing.path(0)}: {first}; "
                f"is --root the folder that their paths start in?",
            )
    names = [split.name for split in splits]
    if len(set(names)) < len(names):
        raise DataError(max(names, key=names.count), "two sources have this name; their lists would have it, too")
    return splits


def left_out(listing: Listing) -> dict[int, str]:
    """Return the rows that cannot be written to a list, with the reasons."""
    problems = file_status.look(listing).problems
    reasons = dict.fromkeys(set(range(len(listing.paths))) - set(listing.samples.tolist()), REPEATED)
    by_file = {int(listing.distinct[number]): problem for number, problem in problems.items()}
    firsts = listing.first_N.tolist()
    reasons |= {row: by_file[firsts[row]] for row in listing.samples.tolist() if firsts[row] in by_file}
    return dict(sorted(reasons.items()))


def overlap(one: Split, other: Split) -> str:
    """Describe the overlap of two splits: common files, and recordings that clips of both were cut from."""
    paths, other_paths = ({split.listing.path(row) for row in split.kept} for split in (one, other))
    line = f"{one.name} and {other.name}: {len(paths & other_paths)} videos in both"
    origin = FORMATS[one.listing.format].origin
    if origin is None or one.listing.format != other.listing.format:
        return line
    shared = set(map(origin, paths)) & set(map(origin, other_paths))
    return f"{line}, {len(shared)} recordings" + (f", such as {min(shared)}" if shared else "")
