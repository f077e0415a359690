"""Tar shards to be written: the members of each, in an order that is the same in every run."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dali_pipes.errors import DataError
from dali_pipes.scan.catalog import Catalog
from dali_pipes.storage.opening import index_of, open_source
from dali_pipes.storage.shards import Index, Place, index_path, write_index
from dali_pipes.storage.sources import ByteSource, LocalFile
from dali_pipes.storage.uploads import Upload
from dali_pipes.video.packet_table import Video
from tools.data.conversion.files import common_folder, list_name

MB = 10**6
_COPIED = 1 << 20  # bytes at once
_NO_SENDFILE = (errno.EINVAL, errno.ENODATA, errno.ENOSYS, errno.EOPNOTSUPP)  # of some network file systems


@dataclass(frozen=True)
class Member:
    """A video and its name in a shard."""

    source: Video
    label: int
    check: int  # how thoroughly the video was scanned: an index in `request.CHECKS`
    name: str

    @property
    def label_name(self) -> str:
        """The name of the member that holds the label: WebDataset joins what is equal up to the first point."""
        return f"{os.path.splitext(self.name)[0]}.cls"


@dataclass(frozen=True)
class Shard:
    """A shard of a list. For `FinishedResults` it is a source: path, size and time change with what it is made of."""

    path: str  # of the list
    name: str
    members: list[Member]

    @property
    def index_name(self) -> str:
        return index_path(self.name)

    @property
    def size(self) -> int:
        """Bytes of all its videos."""
        return sum(member.source.size for member in self.members)

    @cached_property
    def mtime_ns(self) -> int:
        """A number that changes with the name, label, size or time of any video."""
        seen = [(m.name, m.label, m.source.path, m.source.size, m.source.mtime_ns) for m in self.members]
        return int.from_bytes(hashlib.sha256(repr(seen).encode("utf-8", "surrogateescape")).digest()[:7])

    def write(self, file: BinaryIO | Upload) -> str:
        """Write the shard, and return the text of its index. Raises DataError if a video changed since the scan."""
        samples = []
        for member in self.members:
            with open_source(member.source.path) as source:
                if (source.size, source.stamp) != (member.source.size, member.source.mtime_ns):
                    raise DataError(source.path, "changed since the scan; start again to scan it and go on")
                video = _add(file, member.name, source)
            label = str(member.label).encode()
            samples.append([video, _add(file, member.label_name, label)])
        file.write(bytes(2 * tarfile.BLOCKSIZE))  # the end of an archive, filled up to a record
        file.write(bytes(-file.tell() % tarfile.RECORDSIZE))
        return write_index(samples)

    def read_index(self, folder: Path) -> Index:
        """Return the index of the finished shard."""
        with open_source(str(folder / self.name)) as shard:
            return index_of(shard.path, shard.stamp, shard.size)


def _add(file: BinaryIO | Upload, name: str, content: ByteSource | bytes) -> tuple[str, Place]:
    """Add a member without owner and time, so that equal videos give equal shards; return its name and its place."""
    member = tarfile.TarInfo(name)
    member.size = len(content) if isinstance(content, bytes) else content.size
    head, fill = member.tobuf(), bytes(-member.size % tarfile.BLOCKSIZE)
    start = file.tell() + len(head)
    if isinstance(content, bytes):
        file.write(head + content + fill)
    else:
        file.write(head)
        _copy(content, file)
        file.write(fill)
    return name, (start, member.size)


def _copy(source: ByteSource, file: BinaryIO | Upload) -> None:
    """Write all bytes of a source to the end of a file; those from file to file never pass through this process."""
    done = 0
    direct = isinstance(source, LocalFile) and isinstance(file, io.FileIO)
    while done < source.size:
        if direct:
            try:
                count = os.sendfile(file.fileno(), source.descriptor, done, source.size - done)
            except OSError as error:
                if error.errno not in _NO_SENDFILE:
                    raise
                direct = False
                continue
        else:
            count = file.write(source.read(done, min(_COPIED, source.size - done)))
        if not count:
            raise DataError(source.path, "became shorter while it was read; start again to scan it and go on")
        done += count


def plan_shards(catalog: Catalog, most_bytes: int) -> list[Shard]:
    """Divide the readable videos of a list into shards of up to `most_bytes`, or of one video.

    Videos are shuffled, the same in every run, because other programs read shards from one end to the other.
    """
    names = _names(catalog)
    members = [
        Member(catalog.video(row), int(catalog.label_N[row]), int(catalog.check_N[row]), names[row])
        for row in _distinct(catalog)
    ]
    random.Random(0).shuffle(members)
    stem = os.path.splitext(list_name(catalog.source))[0]
    parts = _parts(members, most_bytes)
    return [Shard(catalog.source, f"{stem}-{number:06}.tar", part) for number, part in enumerate(parts)]


def _distinct(catalog: Catalog) -> list[int]:
    """List the rows that name a readable file for the first time."""
    return [row for row in np.flatnonzero(catalog.file_frames_N).tolist() if catalog.first_N[row] == row]


def _parts(members: list[Member], most_bytes: int) -> Iterator[list[Member]]:
    part: list[Member] = []
    size = 0
    for member in members:
        if part and size + member.source.size > most_bytes:
            yield part
            part, size = [], 0
        part.append(member)
        size += member.source.size
    if part:
        yield part


def _names(catalog: Catalog) -> dict[int, str]:
    """Return for each row the name of its member: its path, without what other readers of shards divide names at.

    These are blanks, and points before the ending. Two names that would be the same are numbered.
    """
    common = common_folder([catalog])
    names: dict[int, str] = {}
    taken: set[str] = set()
    for row in _distinct(catalog):
        folder, base = os.path.split(os.path.relpath(catalog.path(row), common))
        stem, ending = os.path.splitext(base)
        plain = re.sub(r"\s", "_", os.path.join(folder, stem.replace(".", "_")))
        unique, count = plain, 1
        while unique.casefold() in taken:
            count += 1
            unique = f"{plain}-{count}"
        taken.add(unique.casefold())
        names[row] = f"{unique}{ending.lower()}"
    return names
