"""A folder with one sub-folder a class, the videos directly in them."""

from __future__ import annotations

import os

from dali_pipes.errors import DataError
from dali_pipes.lists.formats.annotation import Annotation, Row, Source

VIDEO_EXTENSIONS = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf"),
    *(".ogv", ".ts", ".vob", ".webm", ".wmv"),
)


def recognises(source: Source) -> bool:
    return source.text is None


def read(source: Source) -> Annotation:
    """Rows in the order of sorted names. A class without videos counts, else the labels behind it would shift."""
    with os.scandir(source.path) as entries:
        class_names = sorted(entry.name for entry in entries if entry.is_dir() and not _is_ours(entry.name))
    rows = [
        Row(source.path, 0, os.path.join(class_name, video), class_name)
        for class_name in class_names
        for video in sorted(filter(is_video_name, os.listdir(os.path.join(source.path, class_name))))
    ]
    if not rows:
        raise DataError(source.path, "no videos one level down; expected one sub-folder a class with its videos in it")
    return Annotation(rows, tuple(class_names), for_all_splits=False)


def _is_ours(name: str) -> bool:
    """Tell whether a folder is hidden, or a catalogue that a scan wrote."""
    return name.startswith(".") or name.endswith(".scan")


def is_video_name(name: str) -> bool:
    """Tell whether a file has the ending of a video and is not hidden."""
    return not name.startswith(".") and name.lower().endswith(VIDEO_EXTENSIONS)
