"""Where the results of a conversion go: names of files in the new tree and of lists beside it. Writes nothing."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from dali_pipes.errors import DataError
from dali_pipes.scan.catalog import Catalog


def list_name(source: str) -> str:
    """What a list is called in the new tree. `table.csv:train`, one split of a source, becomes `table-train.list`."""
    name, _, split = os.path.basename(source).partition(":")
    return f"{os.path.splitext(name)[0]}{'-' if split else ''}{split}.list"


def result_names(catalogs: list[Catalog], suffix: str) -> dict[str, str]:
    """For each listed path the name of its result below the new tree: its own, with another suffix.

    Where two would be the same (`a.avi`, `a.mp4`), each keeps its own suffix before the new one.
    """
    common = _common_folder(catalogs)
    paths = dict.fromkeys(catalog.path(row) for catalog in catalogs for row in range(len(catalog)))
    names = {path: os.path.relpath(path, common) for path in paths}
    bare = Counter(os.path.splitext(name)[0] for name in names.values())
    return {
        path: (stem if bare[stem := os.path.splitext(name)[0]] == 1 else name) + suffix for path, name in names.items()
    }


def _common_folder(catalogs: list[Catalog]) -> str:
    """The folder that all paths are below: that of the lists' relative paths, where they have one."""
    folders = set()
    for catalog in catalogs:
        for row in range(len(catalog)):
            listed = catalog.listed_path(row)
            folders.add(os.path.dirname(listed) if os.path.isabs(listed) else catalog.base)
    return os.path.commonpath(folders)


def refuse_to_overwrite(results: dict[str, str], lists: dict[str, Path], out: Path) -> None:
    """Raises DataError where a result or a list would take the place of a source, or of another list."""
    for path, name in results.items():
        if os.path.realpath(out / name) == os.path.realpath(path):
            raise DataError(f"{out}: {name} would take the place of its source; write to another folder")
    for source, new in lists.items():
        if os.path.realpath(new) == os.path.realpath(source):
            raise DataError(f"{out}: {new.name} would take the place of the list itself; write to another folder")
    if len(set(lists.values())) < len(lists):
        raise DataError(f"{out}: two lists would have the same name there; convert them one after the other")
