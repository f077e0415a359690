"""Open a video by its path: a file, an object of a store, or a member of a tar shard in either.

The path of a member is the path of its shard followed by its name: `shards/train-000003.tar/pan_up/scene0001.mp4`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

from dali_pipes.errors import DataError
from dali_pipes.storage.objects import is_url
from dali_pipes.storage.remote import RemoteObject
from dali_pipes.storage.shards import Index, index_path, parse_index, stamp_of, walk
from dali_pipes.storage.sources import ByteSource, LocalFile, Part

_SHARD_END = ".tar/"


def split_member(path: str) -> tuple[str, str] | None:
    """Split the path of a member into the path of its shard and its name; None for other paths."""
    shard, mark, name = path.partition(_SHARD_END)
    return (f"{shard}.tar", name) if mark else None


def is_plain(path: str) -> bool:
    """Return True if a path is that of a file, neither a member nor an object."""
    if is_url(path):
        return False
    member = split_member(path)
    return member is None or not os.path.isfile(member[0])  # a folder's name may end in .tar


@contextmanager
def open_source(path: str) -> Iterator[ByteSource]:
    """Open a video for the block. Raises DataError if it does not exist."""
    member = None if is_plain(path) else split_member(path)
    if member is None:
        with _open_whole(path) as whole:
            yield whole
        return
    shard_path, name = member
    with _open_whole(shard_path) as shard:
        index = index_of(shard_path, shard.stamp, shard.size)
        if reason := index.fault(name):
            raise DataError(path, reason)
        start, size = index.members[name]
        yield Part(path, shard, start, size, index.stamp)


@contextmanager
def _open_whole(path: str) -> Iterator[ByteSource]:
    whole = RemoteObject(path) if is_url(path) else LocalFile(path)
    try:
        yield whole
    finally:
        whole.close()


def read_all(path: str) -> bytes:
    """Read a whole video or another file. Raises DataError."""
    with open_source(path) as source:
        data = source.read(0, source.size)
        while len(data) < source.size and (more := source.read(len(data), source.size - len(data))):
            data += more
        return data


@lru_cache(maxsize=64)
def index_of(path: str, stamp: int, size: int) -> Index:
    """Return the index of a shard, from the file next to it or, without one, from the tar headers.

    Raises DataError if the shard is not a tar file.
    """
    with suppress(DataError, ValueError):
        text = read_all(index_path(path))
        return Index.of(parse_index(text.decode("utf-8", "surrogateescape"), size), stamp_of(text, size))
    with _open_whole(path) as shard:
        return Index.of(walk(shard), stamp)
