"""Read a folder with one sub-folder per class, which contains videos at any depth."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import PurePath
from typing import NamedTuple

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.annotation import Annotation, Row
from dali_pipes.lists.formats.signatures import is_video_content
from dali_pipes.lists.formats.source import Source, split_name

VIDEO_EXTENSIONS = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf"),
    *(".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
_PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")  # there may be millions of them, too many to check their content
_FRAME = re.compile(r"[^.].*[0-9]\.jpe?g|[0-9]\.jpe?g", re.IGNORECASE)
_SYSTEM_FOLDERS = frozenset(
    ("__macosx", "@eadir", "$recycle.bin", "#recycle", "#snapshot", "lost+found", "system volume information")
)
_SYSTEM_FILES = frozenset(("thumbs.db", "desktop.ini"))
_PACKED = frozenset(f"{ending} files" for ending in (".gz", ".tgz", ".zip", ".zst", ".bz2", ".xz", ".rar", ".7z"))
_SHOWN = 5  # most names of classes in a message


def read(source: Source) -> Annotation:
    """Read the classes in the order of sorted names, and their videos in the order of sorted paths.

    A class without videos has a number, too; otherwise the numbers would depend on the existing videos. Raises
    DataError if there is no video, or if the sub-folders are splits instead of classes.
    """
    found = find_videos(source.path)
    classes = sorted(name for name in found.folders if "/" not in name)
    rows = [Row(source.path, 0, path, path.partition("/")[0]) for path in found.videos if "/" in path]
    used = {row.label for row in rows}
    if not rows:
        raise DataError(source.path, _without_classes(found))
    if all(map(split_name, used)) and all(row.path.count("/") > 1 for row in rows):
        raise DataError(source.path, _splits_in_place_of_classes(source.path, used))
    outside = len(found.videos) - len(rows)
    left_out = found.left_out + Counter({"videos outside of a class folder": outside} if outside else {})
    notes = [f"left out: {_counted(left_out)}"] if left_out else []
    empty = [name for name in classes if name not in used]
    if empty:
        more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
        notes.append(f"classes without a video: {', '.join(empty[:_SHOWN])}{more}")
    nested = [row.path for row in rows if row.path.count("/") > 1]
    if nested:
        notes.append(f"{len(nested)} videos in sub-folders of their class")
    if len(nested) == len(rows) and len({os.path.dirname(path) for path in nested}) > len(used):
        inner = os.path.dirname(nested[0])
        notes[-1] += f", such as {inner}: if those are the classes, a table of `path,label` says so"
    return Annotation(rows, tuple(classes), for_all_splits=False, notes=tuple(notes))


def _splits_in_place_of_classes(folder: str, names: set[str]) -> str:
    splits = {split_name(name): os.path.join(folder, name) for name in sorted(names)}
    words = [f"data.{split}={path}" for split, path in splits.items() if split in ("train", "val", "test")]
    return f"holds splits, not classes: {', '.join(sorted(names))}; name each, as in {' '.join(words) or min(names)}"


def _without_classes(found: Found) -> str:
    """Return the reason why a folder contains no classes."""
    if found.videos:
        count = f"{len(found.videos)} video{'s' * (len(found.videos) > 1)}"
        return f"holds {count} and no classes; put the videos of each class into a sub-folder with its name"
    if not found.folders and not found.left_out:
        return "is empty; expected one sub-folder a class with its videos in it"
    left_out = f" ({_counted(found.left_out)} left out)" if found.left_out else ""
    packed = "; unpack archives; shards are read as .tar" if found.left_out.keys() & _PACKED else ""
    frames = any(reason.removesuffix(" files") in _PICTURES for reason in found.left_out)
    listed = "; videos that are folders of pictures need a list with a line `folder label` for each" if frames else ""
    return f"no videos in sub-folders; expected one sub-folder a class with its videos in it{left_out}{packed}{listed}"


def _counted(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())


class Found(NamedTuple):
    """The contents of a folder; paths are relative to it."""

    videos: list[str]  # sorted
    folders: list[str]  # sub-folders that may contain videos
    left_out: Counter[str]  # number of other files and folders by reason


def find_videos(folder: str) -> Found:
    """Find the videos below a folder. Links to folders are followed, except cycles.

    A file without a video's extension is a video if its first bytes say so. Raises DataError for unreadable folders.
    """
    found = Found([], [], Counter())
    _search(folder, "", (os.path.realpath(folder),), found)
    found.videos.sort(key=lambda path: path.split("/"))  # by class first
    return found


def _search(root: str, inside: str, way: tuple[str, ...], found: Found) -> None:
    """Add the contents of the folder `inside` the root; `way` has the real paths of the folders from the root to it."""
    place = os.path.join(root, inside)
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(place, f"cannot be read: {error.strerror}") from error
    for entry in entries:
        path = os.path.join(inside, entry.name)
        if reason := _reason_to_skip(entry):
            found.left_out[reason] += 1
        elif _is(entry.is_dir):
            target = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(way[-1], entry.name)
            if any(os.path.commonpath([target, above]) == target for above in way):
                found.left_out["links to a folder above"] += 1
                continue
            found.folders.append(path)
            _search(root, path, (*way, target), found)
        elif is_video_name(entry.name) or _is_video(entry):
            found.videos.append(path)
        else:
            ending = os.path.splitext(entry.name)[1].lower()
            found.left_out[f"{ending} files" if ending else "files without an ending"] += 1


def _reason_to_skip(entry: os.DirEntry) -> str:
    """Return the reason to ignore a file or folder, or an empty text."""
    if entry.name.startswith("."):
        return "hidden"
    name = entry.name.lower()
    if name in _SYSTEM_FOLDERS or name in _SYSTEM_FILES:
        return f"system ({entry.name})"
    if name.endswith(".scan") and os.path.exists(os.path.join(entry.path, "catalog")):
        return "catalogues of a scan"
    return ""


def _is_video(entry: os.DirEntry) -> bool:
    """Return True if a file without a video's extension has the content of a video."""
    return not entry.name.lower().endswith(_PICTURES) and _is(entry.is_file) and is_video_content(entry.path)


def _is(kind: Callable[[], bool]) -> bool:
    """Call `kind`, a method of an entry; return False for a cycle of links."""
    with suppress(OSError):
        return kind()
    return False


def videos_below(folder: str) -> Iterator[str]:
    """Yield the paths of all videos below a folder, and of folders of frames, sorted.

    A folder of frames directly contains numbered JPEG pictures, and has no videos below it. It may be `folder` itself.
    """
    found = find_videos(folder)
    above = {str(parent) for path in found.videos for parent in PurePath(path).parents}
    inside = [path for path in (".", *found.folders) if path not in above and _has_frames(os.path.join(folder, path))]
    for path in sorted([*found.videos, *inside], key=lambda path: path.split("/")):
        yield folder if path == "." else os.path.join(folder, path)


def _has_frames(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(_FRAME.fullmatch(entry.name) for entry in entries)


def is_video_name(name: str) -> bool:
    """Return True if a file has a video's extension and is not hidden."""
    return not name.startswith(".") and name.lower().endswith(VIDEO_EXTENSIONS)
