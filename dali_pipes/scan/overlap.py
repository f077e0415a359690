"""Find the videos that two lists share."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict

from dali_pipes.scan.catalog import Catalog


def shared_videos(training: Catalog, held_out: Catalog, *, by_content: bool = False) -> list[int]:
    """Return the rows of `held_out` whose file is in `training`, too: the same path, or a link to the same file.

    With `by_content` a copy counts as well; only files of equal size are read.
    """
    rows_by_size = defaultdict(list)
    for row in training.usable.tolist():
        rows_by_size[int(training.size_N[row])].append(row)
    paths = {training.path(row) for row in training.usable.tolist()}
    digests: dict[str, bytes] = {}

    def digest(path: str) -> bytes:
        if path not in digests:
            with open(path, "rb") as file:
                digests[path] = hashlib.file_digest(file, "sha256").digest()
        return digests[path]

    def is_shared(row: int) -> bool:
        path = held_out.path(row)
        if path in paths:
            return True
        for other in rows_by_size.get(int(held_out.size_N[row]), ()):
            if training.mtime_ns_N[other] == held_out.mtime_ns_N[row] and os.path.samefile(path, training.path(other)):
                return True
            if by_content and digest(path) == digest(training.path(other)):
                return True
        return False

    return [row for row in held_out.usable.tolist() if is_shared(row)]
