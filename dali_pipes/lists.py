"""What a dataset consists of: list files and folders of videos → rows of (path, label).

Recognises a format by what it finds, reports every bad line at once, and knows nothing of what is inside a video. A new
format is one more `_read_...` function that returns a `Listing`, chosen in `read_list`.

Where paths may lead: relative ones start at `root` (without one: at the list's own folder) and may not climb out of it.
Absolute ones must lie inside `root`; without one they are taken as they are, which PaddleVideo's UCF101 lists need.
Links are followed, and judged, where files are looked at: `dali_pipes/scan.py`.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dali_pipes.errors import DataError

VIDEO_EXTENSIONS = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf"),
    *(".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
LABEL_LIMIT = 2**31  # labels are stored as int32
SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class Listing:
    """The N rows of a dataset, in the order of its list."""

    source: str  # the list file or folder, absolute
    base: str  # absolute folder that relative paths start from
    root: str  # no path may lead out of this folder, not even by a link; empty: any may
    paths: list[str]  # normalised; relative to `base`, or absolute
    label_N: np.ndarray  # int32
    first_N: np.ndarray  # int64: the first row with the same path; its own number unless the row is a repetition
    class_names: tuple[str, ...]  # by label; empty where the list has only numbers

    @cached_property
    def distinct(self) -> np.ndarray:
        """[D] int64: the rows that name a file for the first time."""
        return np.flatnonzero(self.first_N == np.arange(len(self.paths)))

    def path(self, row: int) -> str:
        """The absolute path of a row's video."""
        return os.path.join(self.base, self.paths[row])

    @cached_property
    def digest(self) -> str:
        """Changes whenever a row, their order or a class name does."""
        digest = hashlib.sha256("\n".join([*self.paths, "", *self.class_names]).encode("utf-8", "surrogateescape"))
        digest.update(self.label_N.tobytes())
        return digest.hexdigest()


def read_list(source: str, root: str = "") -> Listing:
    """The rows of a list file (`path label` a line) or of a folder with one sub-folder a class.

    Raises DataError, naming up to ten bad lines as `file:line: reason`.
    """
    source = os.path.abspath(source)
    if os.path.isdir(source):
        return _read_class_folders(source)
    return _read_path_label(source, _read_lines(source), os.path.abspath(root) if root else "")


def inside(root: str, path: str) -> bool:
    """Whether `path` lies in the folder `root` after all links on the way are followed."""
    root = os.path.realpath(root)
    return os.path.commonpath([root, os.path.realpath(path)]) == root


def _read_lines(source: str) -> list[str]:
    """The lines of a text file; only line feeds end a line, since names may hold any other separator."""
    if not os.path.exists(source):
        raise DataError(_missing(source))
    if not os.path.isfile(source):
        raise DataError(f"{source}: neither a list file nor a folder with one sub-folder a class")
    try:
        with open(source, "rb") as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"{source}: the list cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise DataError(f"{source}:{line}: byte 0x{byte:02x} is not UTF-8; save the list as UTF-8") from error


def _missing(source: str) -> str:
    """The message for a list that does not exist, with the names that may have been meant."""
    folder, name = os.path.split(source)
    if not os.path.isdir(folder):
        return f"{source}: no such list; its folder {folder} does not exist either"
    near = difflib.get_close_matches(name, os.listdir(folder), n=3)
    return f"{source}: no such list" + (f"; {folder} holds {', '.join(near)}" if near else "")


def _read_path_label(source: str, lines: list[str], root: str) -> Listing:
    """`path label` a line, split at the last blank, so that names may hold blanks. Empty lines do not count."""
    base = root or os.path.dirname(source)
    paths, labels, first, numbers, problems = [], [], [], [], []
    row_of: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line or line.isspace():
            continue
        try:
            path, label = _parse(line)
            _refuse_outside(path, base, root)
            row = row_of.setdefault(path, len(paths))
            if row < len(paths) and labels[row] != label:
                raise ValueError(f"{path} has label {label} here and label {labels[row]} in line {numbers[row]}")
        except ValueError as problem:
            problems.append(f"{source}:{number}: {problem}")
            continue
        paths.append(path)
        labels.append(label)
        first.append(row)
        numbers.append(number)
    if problems:
        raise DataError(_joined(problems))
    if not paths:
        raise DataError(f"{source}:1: the list is empty; expected `path label` lines")
    return Listing(source, base, root, paths, np.array(labels, np.int32), np.array(first, np.int64), ())


def _parse(line: str) -> tuple[str, int]:
    """The normalised path and the label of a line. Raises ValueError with what is wrong."""
    words = line.rsplit(maxsplit=1)
    if len(words) < 2:
        raise ValueError(f"no label in {line.strip()!r}; expected `path label`")
    path, label = words
    if not (label.isascii() and label.isdigit()):
        raise ValueError(f"label {label!r} is not a whole number of at least 0")
    if len(label) > 10 or int(label) >= LABEL_LIMIT:
        raise ValueError(f"label {label[:20]} is too large for a class number")
    if "\0" in path:
        raise ValueError("the path holds a NUL character, which no file name can")
    return os.path.normpath(path), int(label)


def _refuse_outside(path: str, base: str, root: str) -> None:
    """Raises ValueError if a path, as written, leads out of where it may lead."""
    if path.startswith("/"):
        if root and not inside(root, path):
            raise ValueError(f"{path} lies outside data.root, {root}; leave data.root empty to use absolute paths")
    elif path.startswith("..") and (path == ".." or path.startswith("../")):
        where = "data.root" if root else "the list's folder"
        raise ValueError(f"{path} leads out of {where}, {base}; set data.root to a folder that holds all videos")


def _joined(problems: list[str]) -> str:
    """One message of the first few problems."""
    more = len(problems) - SHOWN_PROBLEMS
    return "\n".join(problems[:SHOWN_PROBLEMS] + ([f"... and {more} more such lines"] if more > 0 else []))


def _read_class_folders(source: str) -> Listing:
    """One sub-folder a class, labelled in the order of their sorted names, the videos directly in them.

    A class folder without videos keeps its label: leaving it out would shift all labels after it.
    """
    with os.scandir(source) as entries:
        class_names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    paths, labels = [], []
    for label, class_name in enumerate(class_names):
        videos = sorted(filter(_is_video_name, os.listdir(os.path.join(source, class_name))))
        paths += [os.path.join(class_name, video) for video in videos]
        labels += [label] * len(videos)
    if not paths:
        raise DataError(f"{source}: no videos one level down; expected one sub-folder a class with its videos in it")
    return Listing(source, source, "", paths, np.array(labels, np.int32), np.arange(len(paths)), tuple(class_names))


def _is_video_name(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(VIDEO_EXTENSIONS)
