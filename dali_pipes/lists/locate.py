"""Find the videos of a list, even if their spelling or folder differs from the list.

Each folder is listed once, and no file is opened. A folder outside the root (after following links) counts as empty.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property

from configs.schema import Data
from dali_pipes.lists.formats.annotation import Format, Places, Row
from dali_pipes.storage.objects import absolute, is_url

Key = Callable[[str], str]


def inside(root: str, path: str) -> bool:
    """Return True if `path` lies in the folder `root` after following all links."""
    root = os.path.realpath(root)
    return os.path.commonpath([root, os.path.realpath(path)]) == root


class VideoPaths:
    """The paths of the videos of a source: checks that they are allowed, and finds different spellings."""

    def __init__(self, folder: str, format: Format, data: Data):
        self.root = absolute(data.root).rstrip("/") if data.root else ""
        if not data.root and not data.follow_links and not is_url(folder):
            self.root = folder.rstrip("/")
        self._named = bool(data.root)
        self.base = self.root or folder
        self.confined_to = "" if data.follow_links else self.root
        self._format = format
        self._prefix, self._suffix = data.prefix, data.suffix or format.suffix
        self.respelled: list[tuple[str, str]] = []  # as listed, as found

    @cached_property
    def _finder(self) -> Finder:
        return Finder(self.base, self.confined_to, self._format.folder_key, self._format.name_key)

    def of(self, row: Row) -> str:
        """Return the normalised path of a row's video, which need not exist. Raises ValueError if it is not allowed."""
        if "\0" in row.path:
            raise ValueError("the path contains a NUL character, which no file name can")
        path = os.path.join(self._prefix, row.path) if self._prefix else row.path
        listed = os.path.normpath(path + self._suffix)
        _refuse_outside(listed, self.base, self.root, self._named)
        as_written = self._format.places is None
        if listed.startswith("/") or (as_written and listed.isascii()):
            return listed
        folder, name = os.path.split(listed)
        if as_written:
            places = (tuple(folder.split("/")) if folder else (),)
        else:
            places = self._below_prefix(self._format.places(row))
        found = self._finder.find(places, name) or listed
        if os.path.basename(found) != name or (as_written and found != listed):
            self.respelled.append((listed, found))
        return found

    def _below_prefix(self, places: Places) -> Places:
        above = tuple(part for part in os.path.normpath(self._prefix).split("/") if part not in ("", "."))
        return tuple((*above, *place) for place in places) if above else places


def _refuse_outside(path: str, base: str, root: str, named: bool) -> None:
    """Raise ValueError if a path as written leads out of the root, `named` by the user, or of the list's folder."""
    where = "data.root" if named else "the list's folder"
    if path.startswith("/"):
        if root and not path.startswith(f"{root}/") and not inside(root, path):
            remedy = "leave data.root empty to use absolute paths" if named else "data.follow_links=true allows it"
            raise ValueError(f"{path} lies outside {where}, {root}; {remedy}")
    elif path.startswith("..") and (path == ".." or path.startswith("../")):
        raise ValueError(f"{path} leads out of {where}, {base}; set data.root to a folder that contains all videos")


class Finder:
    """Finds files below `base`; folders and files with equal keys are treated as the same."""

    def __init__(self, base: str, root: str, folder_key: Key, name_key: Key):
        self._base, self._root = base, root
        self._folder_key, self._name_key = folder_key, name_key
        self._searched: dict[Places, list[_Folder]] = {}
        self._folders: dict[tuple[str, ...], list[_Folder]] = {(): [self._look("")]}

    def find(self, places: Places, name: str) -> str | None:
        """Return the path, relative to the base, of the file `name` in the first of the places that contains it.

        In each place, an exact match is preferred to another name with the same key.
        """
        if places not in self._searched:
            self._searched[places] = [folder for place in places for folder in self._matching(place)]
        key = self._name_key(name)
        for folder in self._searched[places]:
            if name in folder.names or key in folder.by_key:
                return os.path.join(folder.path, name if name in folder.names else folder.by_key[key])
        return None

    def _matching(self, place: tuple[str, ...]) -> list[_Folder]:
        """Return the folders whose path has the same key as `place`, the exact match first."""
        if place not in self._folders:
            key = self._folder_key(place[-1])
            paths = [
                os.path.join(above.path, name)
                for above in self._matching(place[:-1])
                for name in sorted(above.by_folder_key.get(key, ()), key=lambda name: name != place[-1])
            ]
            self._folders[place] = [self._look(path) for path in paths]
        return self._folders[place]

    def _look(self, path: str) -> _Folder:
        folder = os.path.join(self._base, path)
        names: list[str] = []
        if not self._root or inside(self._root, folder):
            with suppress(OSError):
                names = os.listdir(folder)
        return _Folder(path, frozenset(names), self._folder_key, self._name_key)


class _Folder:
    """The names in a folder."""

    def __init__(self, path: str, names: frozenset[str], folder_key: Key, name_key: Key):
        self.path = path  # relative to the base
        self.names = names
        self._folder_key, self._name_key = folder_key, name_key

    @cached_property
    def by_key(self) -> dict[str, str]:
        """Return the first name in sorted order for each key."""
        return {self._name_key(name): name for name in sorted(self.names, reverse=True)}

    @cached_property
    def by_folder_key(self) -> dict[str, list[str]]:
        """Return all names for each key of a folder."""
        names = defaultdict(list)
        for name in sorted(self.names):
            names[self._folder_key(name)].append(name)
        return names
