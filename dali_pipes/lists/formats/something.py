"""Something-Something V1 and Jester (`id;label`, with a file of labels), and V2 (JSON, with `labels.json`).

Videos of V1 and Jester are folders of frames, of V2 `id.webm`. If the file of labels has no numbers, classes are
numbered alphabetically, as in the lists that TSM was trained on.
"""

from __future__ import annotations

import os
import re

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.annotation import Annotation, Row, read_rows
from dali_pipes.lists.formats.class_names import read_class_names
from dali_pipes.lists.formats.json_text import items
from dali_pipes.lists.formats.source import Source, companion, read_text

_LINE = re.compile(r"[0-9]+;.*[^\s0-9]\s*$")
_SPLIT = re.compile(r"(?<![a-z])(train|validation|val|test)", re.IGNORECASE)


def is_csv(source: Source) -> bool:
    """Recognise a list in which every line is an id and a label."""
    return bool(_LINE.match(source.first_line)) and all(_LINE.match(line) for _, line in source.lines())


def is_json(source: Source) -> bool:
    """Recognise a JSON array."""
    return re.match(r"\s*\[\s*(\{|\]|$)", source.text) is not None


def read_csv(source: Source) -> Annotation:
    """Read the rows of V1 or Jester, labelled with names."""
    class_names = tuple(sorted(read_class_names(_labels(source))))

    def parse(line: int, content: str) -> Row:
        name, semicolon, label = content.strip().partition(";")
        if not semicolon or not label:
            raise ValueError(f"expected `id;label`, got {content.strip()[:60]!r}")
        return Row(source.path, line, name, label)

    return Annotation(read_rows(source.path, source.lines(), parse), class_names)


def read_json(source: Source) -> Annotation:
    """Read the rows of V2, numbered by `labels.json`."""
    labels = _labels(source)
    numbers = _read_numbers(labels)

    def parse(line: int, item: object) -> Row:
        if not (isinstance(item, dict) and isinstance(item.get("template"), str)):
            raise ValueError("no template, so no label; the published test set has none, so it cannot be scored")
        template = item["template"].replace("[", "").replace("]", "")
        if template not in numbers:
            raise ValueError(f"template {template[:80]!r} is not in {os.path.basename(labels)}")
        name = str(item.get("id", ""))
        if not (name.isascii() and name.isdigit()):
            raise ValueError(f"id {name[:40]!r} is not a number")
        return Row(source.path, line, name, numbers[template])

    return Annotation(read_rows(source.path, items(source), parse), tuple(sorted(numbers, key=numbers.get)))


def _labels(source: Source) -> str:
    """Return the path of a list's labels: `...-v2-labels.json` for `...-v2-train.json`, otherwise `labels.json`."""
    name = os.path.basename(source.path)
    labels = _SPLIT.sub("labels", name)
    return companion(source, labels if labels != name else f"labels{os.path.splitext(name)[1]}")


def _read_numbers(path: str) -> dict[str, int]:
    """Read `{label: "number"}` with the numbers 0 to K-1."""
    pairs = [item for _, item in items(Source(path, read_text(path)))]
    names = {name: str(number) for name, number in filter(lambda pair: isinstance(pair, tuple), pairs)}
    if not names or set(names.values()) != set(map(str, range(len(names)))) or len(names) < len(pairs):
        raise DataError(f"{path}:1", "expected an object that gives each label its number, from 0 on")
    return {name: int(number) for name, number in names.items()}
