"""Read lists, annotations and folders of videos into a `Listing`: rows of (path, label).

`dali_pipes/lists/formats` parses a source, `locate.py` finds its videos. A listing does not depend on which videos
exist: a missing one keeps its row, and labels do not depend on files.

Relative paths start at `root`, or at the list's folder without a root, and must stay inside. Absolute paths must lie
inside `root`; without a root, any is allowed, which PaddleVideo's UCF101 lists need. Links are followed, unless
data.follow_links forbids links out of `root`: `dali_pipes/lists/file_status.py` checks them. Then the list's folder is
the root if none is given.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists.classes import names_by_label
from dali_pipes.lists.formats import FORMATS, read
from dali_pipes.lists.formats.annotation import WHOLE, Row, Span, refuse
from dali_pipes.lists.formats.class_names import Numbers, alike, some
from dali_pipes.lists.formats.source import Source, refuse_missing
from dali_pipes.lists.locate import VideoPaths
from dali_pipes.storage.objects import absolute, is_url

_DEFAULTS = Data()


@dataclass(frozen=True)
class Listing:
    """The N rows of a dataset, in the order of its list."""

    source: str  # the list file or folder, absolute, with `:split` if one of several is selected
    base: str  # absolute folder, or URL, that relative paths start from
    confined_to: str  # links must not lead out of this folder; empty: no limit
    paths: list[str]  # normalised; relative to `base`, or absolute
    label_N: np.ndarray  # int32
    first_N: np.ndarray  # int64: the first row with the same path, which may be the row itself
    class_names: tuple[str, ...]  # by label; empty if the list has only numbers
    format: str = "path_label"  # a key of dali_pipes.lists.formats.FORMATS
    num_frames_N: np.ndarray | None = None  # int32, as in the list; None unless every row has a number
    frame_pattern: str = ""  # file names of frames, for rows that are folders; empty: folders are not allowed
    span_N2: np.ndarray | None = None  # float64: start and end of each row's part; None: all rows are whole videos
    notes: tuple[str, ...] = ()  # messages for the user about how the list was read

    @cached_property
    def distinct(self) -> np.ndarray:
        """Return the first row of each distinct file: [D] int64."""
        return np.flatnonzero(self.first_N == np.arange(len(self.paths)))

    @cached_property
    def samples(self) -> np.ndarray:
        """Return the first row of each distinct video or part: int64, ascending. Other rows are repetitions."""
        if self.span_N2 is None:
            return self.distinct
        _, first = np.unique(np.column_stack([self.first_N, self.span_N2]), axis=0, return_index=True)
        return np.sort(first)

    def span(self, row: int) -> Span:
        """Return the part of its video that a row describes."""
        return WHOLE if self.span_N2 is None else Span(*self.span_N2[row].tolist())

    def path(self, row: int) -> str:
        """Return the absolute path of a row's video."""
        return os.path.join(self.base, self.paths[row])

    @cached_property
    def digest(self) -> str:
        """Return a sha256 over the rows, their order, and the class names."""
        digest = hashlib.sha256("\n".join([*self.paths, "", *self.class_names]).encode("utf-8", "surrogateescape"))
        digest.update(self.label_N.tobytes())
        digest.update(self.frame_pattern.encode())
        for column in (self.num_frames_N, self.span_N2):
            if column is not None:
                digest.update(column.tobytes())
        return digest.hexdigest()


def read_list(source: str, data: Data = _DEFAULTS, class_names: Sequence[str] = ()) -> Listing:
    """Read a list, an annotation file or a folder, with the settings of `data`.

    `source:train` selects one split. If the rows name their classes, these are numbered by `class_names` (of a
    network), or otherwise as in the training list. Raises DataError with up to ten bad lines as `file:line: reason`.
    """
    opened = Source.open(source)
    format_name, annotation = read(opened, data.format)
    rows = annotation.of_split(opened)
    names, note = names_by_label(annotation, rows, opened, data, tuple(class_names))
    found = VideoPaths(opened.folder, FORMATS[format_name], data)
    listing = _listing(absolute(source), rows, names, found, "" if class_names else data.class_names)
    notes = (*annotation.notes, *filter(None, [note]), *listing.notes)
    return replace(listing, format=format_name, frame_pattern=data.frame_pattern, notes=notes)


def refuse_missing_lists(data: Data) -> None:
    """Raise DataError if the training or the validation list does not exist."""
    for place in (data.train, data.val):
        if place and place != "auto" and data.source == "video":
            refuse_missing(place)


def videos_of(data: Data, class_names: Sequence[str] = ()) -> Iterator[str]:
    """Yield the paths of the videos in all readable lists of `data`.

    `class_names` are those of a network, as for `read_list`.
    """
    for source in filter(None, (data.train, data.val, data.test)):
        with suppress(DataError):
            listing = read_list(source, data, class_names)
            yield from map(listing.path, range(len(listing.paths)))


def unlabelled(paths: Sequence[str], frame_pattern: str = "", spans: Sequence[Span] = ()) -> Listing:
    """Make a listing of given videos, absolute paths or URLs, with label −1; or of their parts, a span for each path.

    With a `frame_pattern`, folders of frames are allowed. Raises DataError if some are in a store and others are not,
    or in another store.
    """
    row_of: dict[str, int] = {}
    label_N = np.full(len(paths), -1, np.int32)
    first_N = np.array([row_of.setdefault(path, row) for row, path in enumerate(paths)], np.int64)
    has_parts = any(span != WHOLE for span in spans)
    span_N2 = np.array(spans, np.float64) if has_parts else None
    base, listed = "/", list(paths)
    if urls := [path for path in paths if is_url(path)]:
        base = os.path.commonprefix(listed).rpartition("/")[0]  # noqa: RUF071 - commonpath takes no URL
        if base.count("/") < len("//"):
            raise DataError(urls[0], "is not in the same store as the other videos; use one store at a time")
        listed = [path[len(base) + 1 :] for path in paths]
    about = {"class_names": (), "frame_pattern": frame_pattern, "span_N2": span_N2}
    return Listing("videos", base, "", listed, label_N, first_N, **about)


def _listing(source: str, rows: list[Row], class_names: tuple[str, ...], found: VideoPaths, names_file: str) -> Listing:
    """Make the listing of rows. Raises DataError with the rows that cannot be used.

    `names_file` has the class names if the user gave it.
    """
    paths, labels, first, used, problems = [], [], [], [], []
    row_of: dict[str, int] = {}
    same_part: dict[tuple[str, Span], int] = {}
    numbers = Numbers(class_names, names_file)
    for row in rows:
        try:
            label = numbers.of(row.label) if isinstance(row.label, str) else row.label
            if class_names and label >= len(class_names):
                raise ValueError(f"label {label} has no name: {len(class_names)} classes are named, from label 0 on")
            path = found.of(row)
            file = path.removeprefix(f"{found.base}/")  # one, whether named from the root or from the base
            same = same_part.setdefault((file, row.span), len(paths))
            if same < len(paths) and labels[same] != label:
                part = "" if row.span == WHOLE else f" from {row.span}"
                line = used[same].line
                raise ValueError(f"{path}{part} has label {label} here and label {labels[same]} in line {line}")
        except ValueError as problem:
            place = f"{row.file}:{row.line}" if row.line else row.file  # a folder has no lines
            problems.append(DataError(place, str(problem)))
            continue
        used.append(row)
        paths.append(path)
        labels.append(label)
        first.append(row_of.setdefault(file, len(first)))
    refuse(problems)
    num_frames_N = np.array([row.frames for row in used], np.int32)
    has_spans = any(row.span != WHOLE for row in used)
    return Listing(
        source,
        found.base,
        found.confined_to,
        paths,
        np.array(labels, np.int32),
        np.array(first, np.int64),
        class_names,
        num_frames_N=num_frames_N if num_frames_N.all() else None,
        span_N2=np.array([row.span for row in used], np.float64) if has_spans else None,
        notes=(*_notes(found.respelled), *_encoding_notes(paths), *_class_notes(class_names)),
    )


def _notes(respelled: list[tuple[str, str]]) -> tuple[str, ...]:
    """Return the message about file names that are spelled differently in the list."""
    if not respelled:
        return ()
    listed, found = respelled[0]
    count = f"{len(respelled)} files are" if len(respelled) > 1 else "1 file is"
    return (f"{count} spelled otherwise than listed, in case or Unicode form: {found!a} for {listed!a}",)


def _class_notes(names: Sequence[str]) -> tuple[str, ...]:
    """Return the message about classes with nearly equal names."""
    if not (same := alike(names)):
        return ()
    return (f"classes {some(same)} differ only in case, blanks, punctuation or Unicode form; they count as different",)


def _encoding_notes(paths: list[str]) -> tuple[str, ...]:
    """Return the message about paths that are not UTF-8."""
    odd = [path for path in paths if not path.isascii() and not _is_utf8(path)]
    if not odd:
        return ()
    return (f"{len(odd)} paths are not UTF-8, such as {odd[0]!a}: the names of their files must have the same bytes",)


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
