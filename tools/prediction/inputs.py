"""Find the videos of files, folders, globs, lists of paths or stdin, without opening them."""

from __future__ import annotations

import glob
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import configs
from configs import cli
from dali_pipes.errors import DataError
from dali_pipes.lists.formats import tables
from dali_pipes.lists.formats.annotation import WHOLE, Span
from dali_pipes.lists.formats.folders import videos_below
from dali_pipes.lists.formats.source import Source, read_text, text_of
from dali_pipes.storage.objects import absolute, is_url
from dali_pipes.storage.opening import is_plain, open_source, read_all

logger = logging.getLogger(__name__)
_NUMBER_BEHIND = re.compile(r"(?<=\S)\s+[0-9]+$")
LISTS = (".txt", ".list", ".jsonl", *tables.CSV_ENDINGS)


class Found(NamedTuple):
    """Videos and parts of videos, each once, in order; and the reason for each word without a video."""

    paths: list[str]  # as given
    spans: list[Span]  # the part of each
    failures: dict[str, str]


def find(words: Iterable[str], root: str = "") -> Found:
    """Return the videos of `words`. `root` is the base of paths in lists. Raises DataError if a list cannot be read."""
    paths: dict[tuple[str, Span], str] = {}  # as given, by absolute path and part
    failures = {}
    for word in words:
        found = list(_paths_of(word, root))
        for path, span in found:
            if path.endswith(".tar") and os.path.isfile(path):
                failures[path] = "is a tar file; give a list of its members, or a member: FILE.tar/NAME"
                continue
            paths.setdefault((absolute(path), span), path)
        if not found:
            failures[word] = _why_none(word)
    return Found(list(paths.values()), [span for _, span in paths], failures)


def _why_none(word: str) -> str:
    if word == "-":
        return "stdin was empty; write a path a line to it"
    return "contains no videos" if os.path.exists(word) else "nothing has such a name"


def _paths_of(word: str, root: str) -> Iterator[tuple[str, Span]]:
    """Yield (path, requested part) of one source.

    A file given by name is yielded even if it does not exist or has another extension.
    """
    if word == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        yield from _listed(Source("-", text), [root])
    elif is_url(word):
        if word.endswith(LISTS):
            yield from _listed(Source(word, text_of(word, read_all(word))), _roots(word, root))
        else:
            yield word, WHOLE
    elif os.path.isdir(word):
        yield from ((path, WHOLE) for path in videos_below(word))
    elif word.endswith(LISTS):
        yield from _listed(Source(word, read_text(word)), _roots(word, root))
    elif glob.has_magic(word) and not os.path.lexists(word):
        for match in sorted(glob.glob(word, recursive=True)):
            found = videos_below(match) if os.path.isdir(match) else [match]
            yield from ((path, WHOLE) for path in found)
    else:
        yield word, WHOLE


def _roots(file: str, root: str) -> list[str]:
    """Return the possible bases of paths in a list: `root`, or otherwise the list's folder and its run's root."""
    if root:
        return [root]
    run = cli.run_folder(Path(file))
    of_run = [configs.load(run).data.root] if (run / "config.yaml").is_file() else []
    return [os.path.dirname(file), *of_run]


def _listed(source: Source, folders: Sequence[str]) -> Iterator[tuple[str, Span]]:
    """Yield (path, part) of each row of a list, with or without a label; relative paths start at one of the folders."""
    table = tables.read_paths(source)
    if table is None:
        asked = ((list(_spellings(line.strip())), WHOLE) for _, line in source.lines())
    else:
        asked = (([row.path], row.span) for row in table.rows)
        for note in table.notes:
            logger.info(f"{source.path}: {note}")
    for spellings, span in asked:
        places = [os.path.join(folder, path) for path in spellings for folder in folders]
        missing = next(filter(_has_no_label, places), places[0])
        yield next(filter(_exists, places), missing), span


def _exists(path: str) -> bool:
    """Return True if a file, or a member of a shard, exists; for an object, if no label follows its extension."""
    if is_url(path):
        return _has_no_label(path)
    if is_plain(path):
        return os.path.lexists(path)
    try:
        with open_source(path):
            return True
    except DataError:
        return False


def _has_no_label(path: str) -> bool:
    """Return True if a path ends with an extension, not with a label behind it."""
    return " " not in os.path.splitext(path)[1]


def _spellings(line: str) -> Iterator[str]:
    """Yield the paths that a line may mean: all of it, the text before a label, or before frames and a label."""
    yield line
    for _ in range(2):
        line, count = _NUMBER_BEHIND.subn("", line)
        if count:
            yield line
