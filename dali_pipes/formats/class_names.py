"""Names of classes: read from a file, and found by name however a dataset's mirror has spelled it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache

from dali_pipes.errors import DataError
from dali_pipes.formats.annotation import Source, nfc_caseless, read_text

_NUMBERED = re.compile(r"([0-9]{1,9})[\s,]+(\S.*)$")


def read_class_names(path: str) -> tuple[str, ...]:
    """The names in a file, one a line, by label. Lines may start with numbers, from 0 or from 1.

    Raises DataError where a name is there twice, or the file has none.
    """
    names = [line.strip() for _, line in Source(path, read_text(path)).lines()]
    numbered = [_NUMBERED.match(name) for name in names]
    if names and all(numbered):
        name_of = {int(found[1]): found[2] for found in numbered}
        if sorted(name_of) in (list(range(len(names))), list(range(1, len(names) + 1))):
            names = [name_of[number] for number in sorted(name_of)]
    if not names:
        raise DataError(f"{path}:1: no class names; expected one a line")
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise DataError(f"{path}:{names.index(twice) + 1}: {twice!r} names two classes")
    return tuple(names)


class Numbers:
    """The numbers of classes by name. Blanks, underscores, punctuation and case may differ."""

    def __init__(self, names: Sequence[str]):
        self._names = names
        self._exact = {name: number for number, name in enumerate(names)}
        squeezed = [squeeze(name) for name in names]
        uses = Counter(squeezed)
        self._squeezed = {key: number for number, key in enumerate(squeezed) if key and uses[key] == 1}

    def get(self, name: str) -> int | None:
        """The number of a class, None where there is no such class."""
        return self._exact.get(name, self._squeezed.get(squeeze(name)))

    def of(self, name: str) -> int:
        """The number of a class. Raises ValueError where there is no such class."""
        number = self.get(name)
        if number is None:
            near = get_close_matches(name, self._names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"class {name[:80]!r} is not among the {len(self._names)} classes{hint}")
        return number


@lru_cache(maxsize=4096)
def squeeze(name: str) -> str:
    """The letters and digits of a name, without case: the same for `air drumming` and `Air_Drumming`."""
    return "".join(filter(str.isalnum, nfc_caseless(name)))
