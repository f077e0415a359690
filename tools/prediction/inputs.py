"""Find the videos that files, folders, globs, lists of paths or stdin name. Opens no video."""

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import configs
from configs import cli
from dali_pipes.lists.formats.annotation import Source, read_text, text_of
from dali_pipes.lists.formats.folders import videos_below
from dali_pipes.storage.objects import absolute, is_url
from dali_pipes.storage.opening import read_all

LISTS = (".txt", ".list", ".jsonl")


def find(words: Iterable[str], root: str = "") -> tuple[list[str], dict[str, str]]:
    """Return the paths of `words`, each file once, in order; and for each word without a path the reason.

    `root` is a folder that paths in lists may start from. Raises DataError if a list cannot be read.
    """
    paths: dict[str, str] = {}  # as given, by absolute path
    failures = {}
    for word in words:
        found = list(_paths_of(word, root))
        for path in found:
            paths.setdefault(absolute(path), path)
        if not found:
            failures[word] = "holds no videos" if os.path.exists(word) else "nothing has such a name"
    return list(paths.values()), failures


def _paths_of(word: str, root: str) -> Iterator[str]:
    """Yield the paths of one source. A file that is named is taken even if it does not exist or has another ending."""
    if word == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        yield from _listed(Source("", text), [root])
    elif is_url(word):
        is_list = word.endswith(LISTS)
        yield from _listed(Source(word, text_of(word, read_all(word))), _roots(word, root)) if is_list else [word]
    elif os.path.isdir(word):
        yield from videos_below(word)
    elif word.endswith(LISTS):
        yield from _listed(Source(word, read_text(word)), _roots(word, root))
    elif glob.has_magic(word) and not os.path.lexists(word):
        for match in sorted(glob.glob(word, recursive=True)):
            yield from videos_below(match) if os.path.isdir(match) else [match]
    else:
        yield word


def _roots(file: str, root: str) -> list[str]:
    """Return the folders that paths in a list may start from: `root`, or else the list's folder and its run's root."""
    if root:
        return [root]
    run = cli.run_folder(Path(file))
    of_run = [configs.load(run).data.root] if (run / "config.yaml").is_file() else []
    return [os.path.dirname(file), *of_run]


def _listed(source: Source, folders: Sequence[str]) -> Iterator[str]:
    """Yield the path of each row of a list, with or without a label; relative ones start at one of the folders."""
    for _, line in source.lines():
        spellings = list(_spellings(line.strip()))
        places = [os.path.join(folder, path) for path in spellings for folder in folders]
        yield next(filter(_exists, places), places[0])


def _exists(path: str) -> bool:
    """Tell whether there is a file; an object is taken for one if no label follows its ending."""
    return " " not in os.path.splitext(path)[1] if is_url(path) else os.path.lexists(path)


def _spellings(line: str) -> Iterator[str]:
    """Yield the paths that a line may mean: all of it, what comes before a label, or before frames and a label."""
    if line.startswith("{"):
        with suppress(ValueError, TypeError, KeyError):
            yield str(json.loads(line)["path"])
            return
    yield line
    for _ in range(2):
        line = line.rpartition(" ")[0].rstrip()
        if line:
            yield line
