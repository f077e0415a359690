"""Find the videos that two lists share."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict

from dali_pipes.scan.catalog import Catalog
from dali_pipes.storage.opening import is_plain, open_source
from dali_pipes.storage.sources import SourceFile


def shared_videos(training: Catalog, held_out: Catalog, *, by_content: bool = False) -> list[int]:
    """Return the rows of `held_out` with a file that is also in `training`: the same path, or a link to the same file.

    With `by_content`, copies count as well; only files of equal size are read. Parts of one video are shared if they
    have common frames.
    """
    rows_by_size, rows_by_path = defaultdict(list), defaultdict(list)
    for row in training.usable.tolist():
        rows_by_size[int(training.size_N[row])].append(row)
        rows_by_path[training.path(row)].append(row)
    digests: dict[str, bytes] = {}

    def digest(path: str) -> bytes:
        if path not in digests:
            with open_source(path) as source:
                digests[path] = hashlib.file_digest(SourceFile(source), "sha256").digest()
        return digests[path]

    def is_same_file(row: int, other: int) -> bool:
        path, other_path = held_out.path(row), training.path(other)
        if training.mtime_ns_N[other] == held_out.mtime_ns_N[row] and _is_same(path, other_path):
            return True
        return by_content and digest(path) == digest(other_path)

    def have_common_frames(row: int, other: int) -> bool:
        first, other_first = held_out.first_frame_N[row], training.first_frame_N[other]
        return first < other_first + training.frames_N[other] and other_first < first + held_out.frames_N[row]

    def is_shared(row: int) -> bool:
        if any(have_common_frames(row, other) for other in rows_by_path.get(held_out.path(row), ())):
            return True
        candidates = rows_by_size.get(int(held_out.size_N[row]), ())
        return any(have_common_frames(row, other) and is_same_file(row, other) for other in candidates)

    return [row for row in held_out.usable.tolist() if is_shared(row)]


def _is_same(path: str, other: str) -> bool:
    """Return True if two paths lead to the same file."""
    return is_plain(path) and is_plain(other) and os.path.samefile(path, other)
