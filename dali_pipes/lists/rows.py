"""`Rows`, the names and labels of a list as a checkpoint keeps them: the order of an epoch is an order of rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

_BETWEEN = "\0"  # no path holds it


@dataclass(frozen=True)
class Rows:
    """The rows of a list in its order. Names are paths without the folder that all of them share: a set may move."""

    names: tuple[str, ...]
    labels: tuple[int, ...]

    @classmethod
    def of(cls, paths: Sequence[str], labels: Iterable[int]) -> Rows:
        """Make the rows of these paths and labels."""
        start = os.path.commonprefix(paths).rfind("/") + 1  # noqa: RUF071 - commonpath refuses a mixture of both kinds
        return cls(tuple(path[start:] for path in paths), tuple(labels))

    @classmethod
    def from_state(cls, state: dict) -> Rows:
        """Read what `to_state` returned."""
        return cls(tuple(state["names"].split(_BETWEEN)), tuple(map(int, state["labels"].split())))

    def to_state(self) -> dict:
        """Return the rows as a checkpoint keeps them: two texts, which are copied and loaded in a moment."""
        return {"names": _BETWEEN.join(self.names), "labels": " ".join(map(str, self.labels))}

    def difference(self, before: Rows) -> str:
        """Describe how these rows differ from those of an earlier start; empty if they do not."""
        if self == before:
            return ""
        now, then = (dict(zip(rows.names, rows.labels, strict=True)) for rows in (self, before))
        relabelled = [name for name in now if name in then and then[name] != now[name]]
        kinds = {
            "gone": [name for name in then if name not in now],
            "new": [name for name in now if name not in then],
            "with another label": [f"{name} ({then[name]} -> {now[name]})" for name in relabelled],
        }
        parts = [f"{len(names)} {kind}, such as {names[0]}" for kind, names in kinds.items() if names]
        return "; ".join(parts) or f"other places, from {self._first_moved(before)} on"

    def _first_moved(self, before: Rows) -> str:
        """Return the name at the first place where another one was."""
        pairs = zip_longest(self.names, before.names)
        return next(now or then for now, then in pairs if now != then)
