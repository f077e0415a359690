"""Find the members of a tar shard, in the index file next to it or by the tar headers.

The index has DALI's format, `NAME.idx` next to `NAME.tar`, as written by `prepare.py pack` and DALI's `wds2idx`: a line
with the version and the number of samples, then one line per sample with `extension offset bytes name` of each member.
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

Place = tuple[int, int]  # (offset, size)


class Index(NamedTuple):
    """The members of a shard."""

    members: dict[str, Place]  # by name, a normalised path
    stamp: int  # `ByteSource.stamp` of all members
    repeated: dict[str, Place]  # the first places of names that later members have again

    @classmethod
    def of(cls, members: Iterable[tuple[str, Place]], stamp: int) -> Index:
        """Make the index of members in the order of their shard."""
        last: dict[str, Place] = {}
        repeated: dict[str, Place] = {}
        for name, place in members:
            if name in last:
                repeated.setdefault(name, last[name])
            last[name] = place
        return cls(last, stamp, repeated)

    def fault(self, name: str) -> str:
        """Return the reason why a member cannot be read; empty if it can.

        Of members with equal names, tar extracts the last, and other programs read each or none.
        """
        if name in self.repeated:
            places = f"bytes {self.repeated[name][0]} and {self.members[name][0]}"
            return f"is in the shard more than once, at {places}; unpack the shard, and pack it anew with one of them"
        if name not in self.members:
            return f"is not among the {len(self.members)} members of the shard"
        return "" if self.members[name][1] else "is empty (0 bytes)"


def index_path(shard: str) -> str:
    """Return the path of the index of a shard."""
    return f"{shard.removesuffix('.tar')}.idx"


def stamp_of(text: bytes, size: int) -> int:
    """Return the stamp of a shard with an index: equal for every copy of both, unlike a time or an ETag."""
    return int.from_bytes(hashlib.sha256(b"%d\n%b" % (size, text)).digest()[:8]) >> 1


def walk(shard: ByteSource) -> Iterator[tuple[str, Place]]:
    """Yield name and (offset, size) of each regular member of a shard. Reads all headers."""
    try:
        with tarfile.open(fileobj=SourceFile(shard), mode="r:") as archive:
            for member in archive:
                if member.isreg() and not member.issparse():
                    yield posixpath.normpath(member.name), (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise DataError(shard.path, f"is not a tar file that can be read ({error})") from error


def parse_index(text: str, size: int) -> list[tuple[str, Place]]:
    """Return name and (offset, size) of each member in an index, for a shard of `size` bytes.

    Raises ValueError if the index is damaged, or is for another version or shard.
    """
    first, *lines = text.splitlines()
    version, count = first.split()
    if version != _VERSION or int(count) != len(lines):
        raise ValueError(f"not a whole index of version {_VERSION}")
    members = []
    for words in map(str.split, lines):
        for start, length, name in zip(words[1::4], words[2::4], words[3::4], strict=True):
            members.append((posixpath.normpath(name), (int(start), int(length))))
    if any(start + length > size for _, (start, length) in members):
        raise ValueError("names bytes beyond the end of the shard")
    return members


def write_index(samples: Iterable[Iterable[tuple[str, Place]]]) -> str:
    """Return the text of an index. The members of a sample differ in the text after the first dot."""
    lines = [
        " ".join(
            f"{posixpath.basename(name).partition('.')[2]} {start} {size} {name}" for name, (start, size) in sample
        )
        for sample in samples
    ]
    return "\n".join([f"{_VERSION} {len(lines)}", *lines, ""])
