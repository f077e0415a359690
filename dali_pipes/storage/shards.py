"""The members of a tar shard: read from the index beside it, or found by its headers.

The index is DALI's, `NAME.idx` beside `NAME.tar`, as `prepare.py pack` and DALI's `wds2idx` write it: a line with the
version and the number of samples, then a line for each sample with `ending offset bytes name` of each of its members.
"""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dali_pipes.errors import DataError
from dali_pipes.storage.sources import ByteSource, SourceFile

_VERSION = "v1.2"

Place = tuple[int, int]  # first byte and number of bytes


class Index(NamedTuple):
    """The members of a shard."""

    members: dict[str, Place]  # by name, as a normal path
    stamp: int  # `ByteSource.stamp` of all members


def index_path(shard: str) -> str:
    """Return the path of the index of a shard."""
    return f"{shard.removesuffix('.tar')}.idx"


def stamp_of(text: bytes, size: int) -> int:
    """Return the stamp of a shard with an index: the same for every copy of both, unlike a time or an ETag."""
    return int.from_bytes(hashlib.sha256(b"%d\n%b" % (size, text)).digest()[:8]) >> 1


def walk(shard: ByteSource) -> Iterator[tuple[str, Place]]:
    """Yield the name and the place of each regular member of a shard. Reads the headers of all."""
    try:
        with tarfile.open(fileobj=SourceFile(shard), mode="r:") as archive:
            for member in archive:
                if member.isreg() and not member.issparse():
                    yield posixpath.normpath(member.name), (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise DataError(shard.path, f"is not a tar file that can be read ({error})") from error


def parse_index(text: str, size: int) -> dict[str, Place]:
    """Return the members that an index names, for a shard of so many bytes.

    Raises ValueError if it is damaged, of another version, or of another shard.
    """
    first, *lines = text.splitlines()
    version, count = first.split()
    if version != _VERSION or int(count) != len(lines):
        raise ValueError(f"not a whole index of version {_VERSION}")
    members = {}
    for words in map(str.split, lines):
        for start, length, name in zip(words[1::4], words[2::4], words[3::4], strict=True):
            members[posixpath.normpath(name)] = int(start), int(length)
    if any(start + length > size for start, length in members.values()):
        raise ValueError("names bytes beyond the end of the shard")
    return members


def write_index(samples: Iterable[Iterable[tuple[str, Place]]]) -> str:
    """Return the text of an index. Each sample has its members, which differ by what follows the first point."""
    lines = [
        " ".join(
            f"{posixpath.basename(name).partition('.')[2]} {start} {size} {name}" for name, (start, size) in sample
        )
        for sample in samples
    ]
    return "\n".join([f"{_VERSION} {len(lines)}", *lines, ""])
