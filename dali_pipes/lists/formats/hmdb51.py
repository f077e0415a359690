"""HMDB51: a folder of files `CLASS_test_splitK.txt` whose lines are `name.avi 0|1|2`.

In split K, 1 means training, 2 testing and 0 neither. Each file is a class, in alphabetical order. The splits are named
train1, test1, train2 and so on.
"""

from __future__ import annotations

import os
import re

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.annotation import Annotation, Places, Row, read_rows
from dali_pipes.lists.formats.source import Source, read_text

_FILE = re.compile(r"(?P<label>.+)_test_split(?P<fold>[123])\.txt$")
_USE = {"0": "", "1": "train", "2": "test"}


def recognises(source: Source) -> bool:
    """Return True if the folder contains such files."""
    return any(map(_FILE.match, os.listdir(source.path)))


def read(source: Source) -> Annotation:
    """Read the rows of all files, in the order of their names."""
    files = sorted(filter(None, map(_FILE.match, os.listdir(source.path))), key=lambda file: file[0])
    if not files:
        raise DataError(source.path, "no file is called like brush_hair_test_split1.txt")
    class_names = tuple(sorted({file["label"] for file in files}))
    rows = [row for file in files for row in _read_class(source.path, file, class_names.index(file["label"]))]
    return Annotation(rows, class_names)


def places(row: Row) -> Places:
    """Return the class folder, then the root, for copies with all videos in one folder."""
    return (row.path.partition("/")[0],), ()


def origin(path: str) -> str:
    """Return the film from which a clip was cut: the part of its name before the class."""
    folder, name = os.path.split(path)
    return name.partition(f"_{os.path.basename(folder)}_")[0]


def _read_class(folder: str, file: re.Match, label: int) -> list[Row]:
    """Read the rows of one file."""
    path = os.path.join(folder, file[0])

    def parse(line: int, content: str) -> Row | None:
        name, use = [*content.rsplit(maxsplit=1), ""][:2]
        if use not in _USE:
            raise ValueError(f"expected a name and 0, 1 or 2, got {content.strip()[:60]!r}")
        return Row(path, line, f"{file['label']}/{name}", label, split=_USE[use] + file["fold"]) if _USE[use] else None

    return read_rows(path, Source(path, read_text(path)).lines(), parse)
