"""Look up size, modification time and accessibility of the files of a list, without opening them.

Members of tar shards are looked up in the index of their shard.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from dali_pipes.errors import DataError
from dali_pipes.lists.listing import Listing
from dali_pipes.lists.locate import inside
from dali_pipes.lists.store_status import NO_SUCH_FILE, Look, look_in_store
from dali_pipes.storage.objects import is_url
from dali_pipes.storage.opening import is_plain, open_source

_THREADS = 16  # threads; they mostly wait for a network file system
_CHUNK = 1024
_KINDS = {
    stat.S_IFDIR: "a folder, not a file",
    stat.S_IFIFO: "a pipe, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
    stat.S_IFSOCK: "a socket, not a file",
}


@dataclass(frozen=True)
class Files:
    """Sizes, modification times and errors of the D distinct files of a listing."""

    size_D: np.ndarray  # int64, bytes; -1 if the file must not be opened
    mtime_ns_D: np.ndarray  # int64; -1 likewise
    folder_D: np.ndarray  # bool: a folder of JPEG frames
    problems: dict[int, str]  # error texts, by the number of the distinct file


def look(listing: Listing) -> Files:
    """Look up every distinct file of a listing once. Raises StorageFault if a store refuses or does not answer."""
    if not is_url(listing.base):
        return _files(_look_at_files(listing))
    return _files(look_in_store([listing.path(row) for row in listing.distinct.tolist()], listing.base))


def _look_at_files(listing: Listing) -> list[Look]:
    rows = listing.distinct.tolist()
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    leads_out = _links_out_of(listing.confined_to)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda chunk: [_look_at(listing, row, leads_out) for row in chunk], chunks)
        return [file for chunk in found for file in chunk]


def _files(seen: Sequence[Look]) -> Files:
    """Return `Files` from the result of each distinct file: (size, stamp, is it a folder), or an error text."""
    size_D, mtime_ns_D = np.full((2, len(seen)), -1, np.int64)
    folder_D, problems = np.zeros(len(seen), bool), {}
    for number, file in enumerate(seen):
        if isinstance(file, str):
            problems[number] = file
        else:
            size_D[number], mtime_ns_D[number], folder_D[number] = file
    return Files(size_D, mtime_ns_D, folder_D, problems)


def _links_out_of(root: str) -> Callable[[str], bool]:
    """Return a function: does a path lead out of `root` through links? Without a root, it is always False."""
    if not root:
        return lambda path: False
    stays_inside = lru_cache(maxsize=None)(partial(inside, root))
    return lambda path: not stays_inside(path if os.path.islink(path) else os.path.dirname(path))


def _look_at(listing: Listing, row: int, leads_out: Callable[[str], bool]) -> Look:
    """Return (size, time, is it a folder of frames) of a file, or the reason why it must not be opened."""
    path = listing.path(row)
    try:
        if leads_out(path):
            target = os.path.realpath(path)
            return f"a link leads out of {listing.confined_to} to {target}, which data.follow_links=false forbids"
        status = os.stat(path)
    except FileNotFoundError:
        return "a link to a file that does not exist" if os.path.islink(path) else _missing(listing.paths[row])
    except OSError as error:
        if error.errno == errno.ENOTDIR and not is_plain(path):
            return _look_at_member(path)
        return os.strerror(error.errno).lower()
    kind = stat.S_IFMT(status.st_mode)
    folder = kind == stat.S_IFDIR and listing.frame_pattern != ""
    if not folder and kind != stat.S_IFREG:
        return _KINDS.get(kind, "not a regular file")
    if not os.access(path, os.R_OK):
        return "permission denied"
    return status.st_size, status.st_mtime_ns, folder


def _missing(listed: str) -> str:
    """Return the error text for a missing file, with other possible meanings of its line."""
    if listed.startswith("#"):
        return f"{NO_SUCH_FILE}; if its line is a comment, remove it: lists have none"
    if len(listed) > 1 and listed[0] in "\"'" and listed[-1] == listed[0]:
        return f"{NO_SUCH_FILE}; write the path without the quotation marks around it"
    if listed.startswith(("~", "$")):
        return f"{NO_SUCH_FILE}; write the folder itself: ~ and $ are not expanded in lists"
    if "\\" in listed:
        return f"{NO_SUCH_FILE}; write / in place of \\"
    return NO_SUCH_FILE


def _look_at_member(path: str) -> Look:
    """Return the same as `_look_at` for a member of a shard."""
    try:
        with open_source(path) as member:
            return member.size, member.stamp, False
    except DataError as error:
        return error.reason_for(path)
    except OSError as error:
        return os.strerror(error.errno).lower()
