"""Folders of WebDataset shards: a sample consists of the members whose names are equal up to the first dot.

The video of a sample is the member with a video's extension. Its label is the text of the member `.cls`, a number or a
name, or `cls` or `label` in the member `.json`. The names of the shards begin with their split.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterator

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.annotation import LABEL_LIMIT, Annotation, Row, number, read_rows
from dali_pipes.lists.formats.folders import is_video_name
from dali_pipes.lists.formats.source import Source, split_name
from dali_pipes.lists.formats.tables import NUMBER, text, with_one_label
from dali_pipes.storage.opening import index_of, open_source
from dali_pipes.storage.shards import Index, Place
from dali_pipes.storage.sources import ByteSource

_LABEL_KEYS = ("cls", "label")

Members = list[tuple[str, str, Place]]  # text after the first dot, in lower case; name and byte range of the member
Sample = dict[str, tuple[str, Place]]  # the same, by that text


def recognises(source: Source) -> bool:
    """Recognise a folder with shards and without class folders."""
    with os.scandir(source.path) as found:
        entries = [entry for entry in found if not entry.name.startswith(".")]
    folders = [entry for entry in entries if os.path.isdir(entry.path) and not entry.name.endswith(".scan")]
    return bool(_shards(source)) and not folders


def read(source: Source) -> Annotation:
    """Read the samples of all shards, sorted by shard, in the order of the members."""
    rows = []
    for shard in _shards(source):
        path = os.path.join(source.path, shard)
        with open_source(path) as opened:
            index = index_of(path, opened.stamp, opened.size)
            samples = list(_samples(index.members))

            def parse(
                line: int, members: Members, opened: ByteSource = opened, index: Index = index, shard: str = shard
            ) -> Row | None:
                return _row(opened, line, members, index, shard)

            rows += read_rows(path, enumerate(samples, start=1), parse)
    if len({type(row.label) for row in rows}) > 1:
        raise DataError(source.path, "some of its labels are numbers and some are names")
    return with_one_label(Annotation(rows, for_all_splits=False))


def _shards(source: Source) -> list[str]:
    return sorted(name for name in os.listdir(source.path) if name.endswith(".tar") and not name.startswith("."))


def _samples(members: dict[str, Place]) -> Iterator[Members]:
    """Yield the members of each sample of a shard. They need not be adjacent."""
    samples: dict[str, Members] = {}
    for name, place in members.items():
        folder, base = posixpath.split(name)
        key, _, ending = base.partition(".")
        samples.setdefault(posixpath.join(folder, key), []).append((ending.lower(), name, place))
    yield from samples.values()


def _sample(members: Members, index: Index) -> Sample:
    """Return a sample. Raises ValueError if it has two members of a kind: which of them counts is left open."""
    sample: Sample = {}
    for ending, name, place in members:
        if name in index.repeated:
            raise ValueError(f"{name} {index.fault(name)}")
        if ending in sample:
            raise ValueError(f"{sample[ending][0]} and {name} are the same member of a sample; keep one of them")
        sample[ending] = name, place
    return sample


def _row(shard: ByteSource, line: int, members: Members, index: Index, listed: str) -> Row | None:
    """Return the row of a sample; None if it has no video. Raises ValueError if it has no label, or several videos."""
    videos = [name for _, name, _ in members if is_video_name(posixpath.basename(name))]
    if not videos:
        return None
    sample = _sample(members, index)
    if len(videos) > 1:
        raise ValueError(f"sample {line} has several videos: {', '.join(sorted(videos))}{_advice(videos)}")
    label = _label(shard, sample, videos[0])
    return Row(shard.path, line, f"{listed}/{videos[0]}", label, split=split_name(listed).rstrip("0123456789"))


def _label(shard: ByteSource, sample: Sample, video: str) -> int | str:
    if "cls" in sample:
        label = _text(shard, sample["cls"])
    elif "json" in sample:
        try:
            found = json.loads(_text(shard, sample["json"]))
            key = next(key for key in _LABEL_KEYS if key in found)
        except (ValueError, TypeError, StopIteration) as error:
            raise ValueError(f"the .json of {video} contains no {' and no '.join(_LABEL_KEYS)}") from error
        if not (label := text(found, key)):
            raise ValueError(f"the .json of {video} has no value for {key}")
    else:
        raise ValueError(f"{video} has no label: its sample has neither a .cls nor a .json{_advice([video])}")
    return number(label, "label", LABEL_LIMIT) if NUMBER.fullmatch(label) else label


def _advice(videos: list[str]) -> str:
    """Return how samples are divided, if the names of the videos have more dots than that of an ending."""
    dotted = any(posixpath.basename(name).count(".") > 1 for name in videos)
    return "; members whose names are equal up to the first dot are one sample" if dotted else ""


def _text(shard: ByteSource, member: tuple[str, Place]) -> str:
    name, (start, size) = member
    content = shard.read(start, size).decode("utf-8", "replace").strip()
    if not content:
        raise ValueError(f"{name} is empty")
    return content
