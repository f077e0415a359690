"""Find the videos that files, folders, globs, lists of paths or stdin name. Opens no video."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator

from dali_pipes.lists.formats.annotation import Source, read_text
from dali_pipes.lists.formats.folders import videos_below

LISTS = (".txt", ".list")


def find(words: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Return the paths of `words`, each file once, in order; and for each word without a path the reason.

    Raises DataError if a list cannot be read.
    """
    paths: dict[str, str] = {}  # as given, by absolute path
    failures = {}
    for word in words:
        found = list(_paths_of(word))
        for path in found:
            paths.setdefault(os.path.abspath(path), path)
        if not found:
            failures[word] = "holds no videos" if os.path.exists(word) else "nothing has such a name"
    return list(paths.values()), failures


def _paths_of(word: str) -> Iterator[str]:
    """Yield the paths of one source. A file that is named is taken even if it does not exist or has another ending."""
    if word == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        yield from _listed(Source("", text), "")
    elif os.path.isdir(word):
        yield from videos_below(word)
    elif word.endswith(LISTS):
        yield from _listed(Source(word, read_text(word)), os.path.dirname(word))
    elif glob.has_magic(word) and not os.path.lexists(word):
        for match in sorted(glob.glob(word, recursive=True)):
            yield from videos_below(match) if os.path.isdir(match) else [match]
    else:
        yield word


def _listed(source: Source, folder: str) -> Iterator[str]:
    """Yield the path of each line of a list, with or without a label after it; relative ones start at `folder`."""
    for _, line in source.lines():
        path = os.path.join(folder, line.strip())
        before_label = path.rpartition(" ")[0].rstrip()
        yield before_label if before_label and not os.path.lexists(path) and os.path.isfile(before_label) else path
