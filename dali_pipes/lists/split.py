"""Split a list into training and held-out videos: stratified by class, clips of one recording on one side.

A split follows from the names of its groups and the seed alone, so it is the same on every machine and in every run,
and new videos leave the old ones on their side as long as the classes keep their sizes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from dali_pipes.errors import DataError
from dali_pipes.lists.formats import FORMATS, kinetics, tables, ucf101
from dali_pipes.lists.formats.source import Source, read_text
from dali_pipes.lists.listing import Listing

_NAMES = {  # of files, and how the recording follows from one
    r"v_\w+_g\d+_c\d+": ucf101.origin,
    r"[\w-]{11}_\d{6}_\d{6}": kinetics.origin,
}
_MANY = 0.25  # of a list's videos under one stem: such a stem names the set, not a recording


def groups_of(listing: Listing, column: str | None = None, pattern: str = "") -> Sequence[str]:
    """Return the group of each row: rows of one group stay on one side.

    Groups are the values of a table's `column`, else what the regular expression `pattern` finds in a path, else the
    recordings that the format of the list knows (Kinetics, UCF101, HMDB51) or the names of all files tell (Kinetics,
    UCF101), else single videos. A path in which `pattern` finds nothing is a group by itself. Raises DataError if there
    is no such column.
    """
    if column is not None:
        return tables.column(Source(listing.source, read_text(listing.source)), column)
    if pattern:
        return [found[0] if (found := re.search(pattern, path)) else path for path in listing.paths]
    origin = FORMATS[listing.format].origin or _origin_of_names(listing.paths)
    return listing.paths if origin is None else [origin(path) for path in listing.paths]


def _origin_of_names(paths: Sequence[str]) -> Callable[[str], str] | None:
    """Return how the recording follows from a path, if all files are named as in one published dataset."""
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    return next((origin for name, origin in _NAMES.items() if all(map(re.compile(name).fullmatch, stems))), None)


def divide(listing: Listing, groups: Sequence[str], held_out: float, seed: int) -> dict[str, list[int]]:
    """Return the rows of `train` and of `val`, sorted by path; `val` has about `held_out` of each class.

    Every class of at least two groups is on both sides where whole groups allow it. Raises DataError if one side would
    be empty.
    """
    members = defaultdict(list)
    for row in listing.samples.tolist():
        members[groups[row]].append(row)
    names = sorted(members, key=lambda name: _rank(name, seed))
    classes = {name: Counter(listing.label_N[members[name]].tolist()) for name in names}
    chosen = _choose(names, classes, held_out)
    sides: dict[str, list[int]] = {"train": [], "val": []}
    for name in names:
        sides["val" if name in chosen else "train"] += members[name]
    if not all(sides.values()):
        raise DataError(listing.source, f"{len(names)} groups of videos are too few to divide")
    return {side: sorted(rows, key=listing.paths.__getitem__) for side, rows in sides.items()}


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()


def _choose(names: Sequence[str], classes: dict[str, Counter], held_out: float) -> set[str]:
    """Choose the groups to hold out: first one for each class that can spare it, then those that fill the quotas."""
    total, left, held = sum(classes.values(), Counter()), Counter(), Counter()
    for name in names:
        left.update(classes[name].keys())  # groups of a class that are not held out
    quota = {label: max(1, round(held_out * count)) for label, count in total.items() if left[label] > 1}
    chosen: set[str] = set()

    def is_new(name: str) -> bool:
        return any(label in quota and not held[label] for label in classes[name])

    def is_due(name: str) -> bool:
        due = sum(min(max(quota.get(label, 0) - held[label], 0), count) for label, count in classes[name].items())
        return 2 * due > classes[name].total()

    for is_wanted in (is_new, is_due):
        for name in names:
            if name not in chosen and is_wanted(name) and all(left[label] > 1 for label in classes[name]):
                chosen.add(name)
                left.subtract(classes[name].keys())
                held.update(classes[name])
    return chosen


def divided_recordings(listing: Listing, sides: dict[str, list[int]]) -> list[tuple[str, str]]:
    """Return pairs of (train, val) paths whose names differ only in a last part, as clips of one recording do.

    Stems that a quarter of the list shares are left out: they name the set.
    """
    stems = Counter(_stem(listing.paths[row]) for row in listing.samples.tolist())
    train = {_stem(listing.paths[row]): listing.paths[row] for row in sides["train"]}
    pairs = ((train.get(stem), path) for stem, path in _with_stems(listing, sides["val"]) if _tells(stem, stems))
    return [(first, second) for first, second in pairs if first]


def _with_stems(listing: Listing, rows: Iterable[int]) -> Iterable[tuple[str, str]]:
    return ((_stem(listing.paths[row]), listing.paths[row]) for row in rows)


def _tells(stem: str, stems: Counter) -> bool:
    return 1 < stems[stem] < _MANY * stems.total()


def _stem(path: str) -> str:
    """Return a path without its ending and the last part of its name: `a/seq3_02.mp4` -> `a/seq3`."""
    folder, name = os.path.split(os.path.splitext(path)[0])
    first, separator, _ = name.rpartition(next(iter(re.findall(r"[-_. (]", name)[-1:]), "\0"))
    return os.path.join(folder, first if separator else name)
