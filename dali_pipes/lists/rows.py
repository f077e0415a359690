"""`Rows`, a list as a checkpoint keeps it: names, labels and sizes, in the order that an epoch permutes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import numpy as np

from dali_pipes.lists.listing import Listing

_BETWEEN = "\0"  # no path contains it


@dataclass(frozen=True)
class Rows:
    """The rows of a list, in order. Names are paths without the common folder, so that a dataset may be moved."""

    names: tuple[str, ...]
    labels: tuple[int, ...]
    sizes: tuple[int, ...] = field(default=(), compare=False)  # bytes of each file; 0: not known; (): of none known

    @classmethod
    def of(cls, paths: Sequence[str], labels: Iterable[int], sizes: Iterable[int] = ()) -> Rows:
        """Make the rows of these paths, labels and sizes."""
        start = os.path.commonprefix(paths).rfind("/") + 1  # noqa: RUF071 - commonpath refuses a mixture of both kinds
        return cls(tuple(path[start:] for path in paths), tuple(labels), tuple(sizes))

    @classmethod
    def from_state(cls, state: dict) -> Rows:
        """Restore rows from the output of `to_state`."""
        labels, sizes = (tuple(map(int, state.get(column, "").split())) for column in ("labels", "sizes"))
        return cls(tuple(state["names"].split(_BETWEEN)), labels, sizes)

    def to_state(self) -> dict:
        """Return the rows as a checkpoint keeps them: three texts, which are copied and loaded in a moment."""
        labels, sizes = (" ".join(map(str, column)) for column in (self.labels, self.sizes))
        return {"names": _BETWEEN.join(self.names), "labels": labels, "sizes": sizes}

    def difference(self, before: Rows) -> str:
        """Describe the difference to the rows of an earlier start; empty if there is none."""
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

    def other_sizes(self, before: Rows) -> str:
        """Count and name the files that had another size at an earlier start, with the same rows; empty if none had."""
        pairs = zip(self.names, before.sizes, self.sizes, strict=False)  # an older version kept no sizes
        other = [f"{name} ({then:,} -> {now:,} bytes)" for name, then, now in pairs if then and now and then != now]
        return (
            f"{len(other)} {'files have' if len(other) > 1 else 'file has'} another size, such as {other[0]}"
            if other
            else ""
        )

    def _first_moved(self, before: Rows) -> str:
        """Return the name of the first row that differs."""
        pairs = zip_longest(self.names, before.names)
        return next(now or then for now, then in pairs if now != then)


def with_lost_rows(listing: Listing, before: Rows) -> Listing:
    """Return a listing of class folders with the rows of an earlier start, if files were lost since and none is new.

    Unlike a list, class folders do not name files that were lost.
    """
    now, known = Rows.of(listing.paths, listing.label_N.tolist()), dict(zip(before.names, before.labels, strict=True))
    same = all(known.get(name) == label for name, label in zip(now.names, now.labels, strict=True))
    if listing.format != "folders" or not same or len(now.names) == len(before.names):
        return listing
    shared = listing.paths[0].removesuffix(now.names[0])
    return replace(
        listing,
        paths=[shared + name for name in before.names],
        label_N=np.array(before.labels, np.int32),
        first_N=np.arange(len(before.names)),
        notes=(*listing.notes, f"{len(before.names) - len(now.names)} files are gone since the run was started"),
    )
