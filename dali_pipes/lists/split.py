"""Split a list into training and held-out videos, stratified by class; clips of one recording stay on one side.

A split depends only on the names of the groups and the seed, so it is the same on every machine and in every run. New
videos do not move old ones to the other side, as long as the classes keep their sizes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists.classes import CLASSES
from dali_pipes.lists.formats import FORMATS, tables
from dali_pipes.lists.formats.source import Source
from dali_pipes.lists.listing import Listing
from dali_pipes.lists.writing import classes_text, list_text, root_of, rows_of

_NAMES = {  # pattern of file names, and the function from a path to the recording
    r"v_\w+_g\d+_c\d+": FORMATS["ucf101"].origin,
    r"[\w-]{11}_\d{6}_\d{6}": FORMATS["kinetics"].origin,
}
_MANY = 0.25  # fraction of a list's videos with the same stem: such a stem names the dataset, not a recording


class HeldOut(NamedTuple):
    """The result of `hold_out`."""

    data: Data  # settings that read the two sides
    rows: list[int]  # to train on
    texts: dict[Path, str]  # the lists of both sides and the names of the classes, by file
    notes: list[str]  # messages for the user


def hold_out(listing: Listing, data: Data, seed: int, folder: Path) -> HeldOut:
    """Hold out a part of a list, for data.val=auto. The lists of both sides will be written to `folder`."""
    groups = groups_of(listing, data.group or None, data.group_regex)
    try:
        sides = divide(listing, groups, data.held_out, seed)
    except DataError as error:
        raise DataError(error.path, f"{error.reason}; data.val= holds none out and trains on all") from None
    notes = _notes(listing, data, sides, groups)
    files = {name: folder / f"{name}.list" for name in sides}
    root = root_of([listing])
    texts = {file: list_text(file, rows_of(listing, sides[name], root)) for name, file in files.items()}
    names = {}
    if listing.class_names:
        texts[folder / CLASSES] = classes_text(listing.class_names)
        names = {"class_names": str(folder / CLASSES)}
    train, val = (str(files[name]) for name in ("train", "val"))
    data = replace(data, **names, root=root, train=train, val=val, format="auto", prefix="", suffix="")
    data = replace(data, divided=len(listing.samples))
    return HeldOut(data, sides["train"], texts, notes)


def _notes(listing: Listing, data: Data, sides: dict[str, list[int]], groups: Sequence[str]) -> list[str]:
    """Return messages: numbers of videos and recordings on each side, and recordings that may be on both."""
    grouped = len(set(groups)) < len(set(listing.paths))

    def count(side: str) -> str:
        recordings = counted(len({groups[row] for row in sides[side]}), "recording")
        return counted(len(sides[side]), "video") + (f" of {recordings}" if grouped else "")

    lines = [f"{count('train')} to train on, {count('val')} held out{lacking(listing, sides['val'])}"]
    pairs = [] if data.group_regex or data.group else divided_recordings(listing, sides)
    if pairs:
        train, val = pairs[0]
        lines.append(
            f"{len(pairs)} held-out videos are named almost like training videos ({val} and {train}); if they show one "
            "recording, keep it on one side with data.group_regex, or data.group=COLUMN of a table"
        )
    return lines


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or the plural."""
    return f"{number} {noun}{'s' * (number != 1)}"


def lacking(listing: Listing, rows: list[int]) -> str:
    """Describe the classes without a video on a side."""
    lost = sorted(set(listing.label_N.tolist()) - set(listing.label_N[rows].tolist()))
    names = [listing.class_names[label] if listing.class_names else str(label) for label in lost[:5]]
    classes = "class" if len(lost) == 1 else f"{len(lost)} classes:"
    return f", none of {classes} {', '.join(names)}{' ...' if len(lost) > 5 else ''}" if lost else ""


def groups_of(listing: Listing, column: str | None = None, pattern: str = "") -> Sequence[str]:
    """Return the group of each row; a group stays on one side.

    The group is the value in a table's `column`; or the match of the regular expression `pattern` in the path; or the
    recording, if the list's format knows it (Kinetics, UCF101, HMDB51) or all file names show it (Kinetics, UCF101);
    otherwise each video is a group. A path without a match of `pattern` is a group of its own. Raises DataError if
    there is no such column, or no path matches `pattern`.
    """
    if column is not None:
        source = Source.open(listing.source)
        annotation = FORMATS[listing.format].read(source)
        splits = {row.split for row in annotation.of_split(source)}
        values = zip(tables.column(source, listing.format, column), annotation.rows, strict=True)
        return [value for value, row in values if row.split in splits]
    if pattern:
        matches = [re.search(pattern, path) for path in listing.paths]
        if not any(matches):
            seen = f"the regular expression {pattern} of the groups is found in none of its {len(matches)} paths"
            raise DataError(listing.source, f"{seen}, such as {listing.paths[0]}")
        return [match[0] if match else path for match, path in zip(matches, listing.paths, strict=True)]
    origin = FORMATS[listing.format].origin or _origin_of_names(listing.paths)
    return listing.paths if origin is None else [origin(path) for path in listing.paths]


def _origin_of_names(paths: Sequence[str]) -> Callable[[str], str] | None:
    """Return the function from a path to its recording, if all files are named as in a published dataset."""
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    return next((origin for name, origin in _NAMES.items() if all(map(re.compile(name).fullmatch, stems))), None)


def divide(listing: Listing, groups: Sequence[str], held_out: float, seed: int) -> dict[str, list[int]]:
    """Return the rows of `train` and `val`, sorted by path; `val` has about the fraction `held_out` of each class.

    Every class with at least two groups is on both sides, if the groups allow it. Raises DataError if one side would be
    empty.
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
        what = "groups of videos" if len(names) < len(listing.samples) else "videos"
        remedy = "to hold one out, a class needs two"
        raise DataError(listing.source, f"{len(names)} {what} are too few to divide: {remedy}")
    return {side: sorted(rows, key=listing.paths.__getitem__) for side, rows in sides.items()}


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()


def _choose(names: Sequence[str], classes: dict[str, Counter], held_out: float) -> set[str]:
    """Choose the groups to hold out: first one for each class that has enough groups, then more until the quotas are
    filled.
    """
    total, left, held = sum(classes.values(), Counter()), Counter(), Counter()
    for name in names:
        left.update(classes[name].keys())  # number of groups of each class that are not held out
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
    """Return pairs of (train, val) paths that differ only in the last part of the name, like clips of one recording.

    Stems shared by a quarter of the list are ignored: they name the dataset.
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
    """Return a path without its extension and the last part of its name: `a/seq3_02.mp4` -> `a/seq3`."""
    folder, name = os.path.split(os.path.splitext(path)[0])
    first, separator, _ = name.rpartition(next(iter(re.findall(r"[-_. (]", name)[-1:]), "\0"))
    return os.path.join(folder, first if separator else name)
