"""UCF101: `trainlist01.txt` and `testlist01.txt` with `classInd.txt`, which numbers the classes from 1.

Test lists have no labels, so the class is always taken from the folder. One class is spelled both `HandstandPushups`
and `HandStandPushups`, so case is ignored here.
"""

from __future__ import annotations

import os
import re

from dali_pipes.lists.formats.annotation import Annotation, Places, Row, read_rows
from dali_pipes.lists.formats.class_names import Numbers, read_class_names
from dali_pipes.lists.formats.source import Source, companion

_LINE = re.compile(r"(?P<folder>[^/\s]+)/(?P<name>v_[^/\s]+_g[0-9]+_c[0-9]+\.\w+)(\s+(?P<label>[0-9]{1,9}))?$")
_CLASSES = "classInd.txt"


def recognises(source: Source) -> bool:
    """Recognise a line of UCF101; its label, if any, counts from 1 as in `classInd.txt`."""
    found = _LINE.match(source.first_line)
    classes = os.path.join(source.folder, _CLASSES)
    if not found or not os.path.isfile(classes):
        return bool(found) and not found["label"]
    numbers = Numbers(read_class_names(classes))
    return not found["label"] or int(found["label"]) != numbers.get(found["folder"])


def read(source: Source) -> Annotation:
    """Read a train or test list. Raises DataError if `classInd.txt` is missing or contradicts a label."""
    class_names = read_class_names(companion(source, _CLASSES))
    numbers = Numbers(class_names)

    def parse(line: int, content: str) -> Row:
        found = _LINE.match(content.strip())
        if not found:
            raise ValueError(f"expected `Class/v_Class_g01_c01.avi`, got {content.strip()[:60]!r}")
        label = numbers.of(found["folder"])
        if found["label"] and int(found["label"]) != label + 1:
            raise ValueError(f"label {found['label']}, but {_CLASSES} gives {found['folder']} the number {label + 1}")
        return Row(source.path, line, f"{found['folder']}/{found['name']}", label)

    return Annotation(read_rows(source.path, source.lines(), parse), class_names)


def places(row: Row) -> Places:
    """Return the class folder, then the root, for copies with all videos in one folder."""
    return (row.path.partition("/")[0],), ()


def origin(path: str) -> str:
    """Return the recording from which a clip was cut: class and group, such as `g01`."""
    return re.sub(r"_c[0-9]+\.\w+$", "", os.path.basename(path)).casefold()
