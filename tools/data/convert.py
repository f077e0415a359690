"""Turns the videos of lists into a parallel tree of converted ones, with the lists rewritten to match.

Owns what is done already and what was left out; `convert_names` says where results go, and the function that is given
makes one. Each result is made under a temporary name, moved into place whole, and then noted. So the work may be killed
at any moment: started again it goes on, and ends as it would have ended. Sources are only read.

    OUT/                 the tree: each result where its source is below the folder that all have in common
    OUT/NAME.list        each list, without what was left out
    OUT/NAME.classes.txt its class names, if it has any
    OUT/done.jsonl       a line for each result: made of which source, with which settings, and what was done
    OUT/left_out.jsonl   a line for each row that is not in the new lists, with the reason
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from errno import ENOSPC
from pathlib import Path

import filelock

from dali_pipes.errors import DataError
from dali_pipes.progress import watched
from dali_pipes.scan.build import load_catalog
from dali_pipes.scan.catalog import Catalog
from dali_pipes.scan.processes import Call, Failure, call_all
from dali_pipes.video.packet_table import Video
from engine.files import replace_file
from tools.data.arguments import add_dataset_arguments, datasets
from tools.data.conversion_files import Ledger, list_name, refuse_to_overwrite, replace_lines, result_names
from tools.data.write_lists import by_split

DONE, LEFT_OUT, UNFINISHED, LOCK = "done.jsonl", "left_out.jsonl", ".unfinished", ".lock"
logger = logging.getLogger(__name__)
SECONDS = 60.0  # after which a conversion hangs, and one more for each frame


@dataclass(frozen=True)
class Conversion:
    """What is made of every video."""

    function: Callable[[Video, str, dict], dict]
    """(source, path to write, settings) → what was done, for the record. Importable by name; raises DataError."""
    settings: dict  # plain values; when one changes, all is made anew
    suffix: str  # of what is written; empty for folders
    line: Callable[[str, int, dict], str]  # (path, label, record) → a line of the new list
    reading: tuple[str, ...] = ()  # settings of a recipe that reads what is written


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    records: list[dict]  # of every result in the new lists, one a file
    left_out: list[dict]  # path, label and reason of every other row
    made: int  # how many results are new
    lists: list[Path]  # the new ones


def convert_all(catalogs: list[Catalog], out: Path, conversion: Conversion, workers: int) -> Outcome:
    """Convert every readable video of these lists into the tree at `out`.

    Raises DataError where something would be written over a source, nothing is left, or the disk is full.
    """
    lists = {catalog.source: out / list_name(catalog.source) for catalog in catalogs}
    results = result_names(catalogs, conversion.suffix)
    refuse_to_overwrite(results, lists, out)
    reasons = {bad.path: bad.reason for catalog in catalogs for bad in catalog.unreadable}
    row_of = {catalog.path(row): (catalog, row) for catalog in catalogs for row in catalog.usable.tolist()}
    with _workplace(out) as unfinished, closing(Ledger(out / DONE, out, conversion.settings)) as ledger:
        todo = [path for path, (catalog, row) in row_of.items() if not ledger.has(catalog.video(row), results[path])]
        calls = _calls([row_of[path] for path in todo], unfinished, conversion)
        for path, made in _run(calls, len(todo), conversion, workers):
            if isinstance(made, Failure):
                reasons[path] = made.reason_for(path)
            else:
                catalog, row = row_of[path]
                _move(Path(made.pop("at")), out / results[path])
                ledger.add(catalog.video(row), results[path], made)
        records = {path: ledger.records[results[path]] for path in row_of if path not in reasons}
    left_out = [entry for catalog in catalogs for entry in _left_out(catalog, reasons)]
    replace_lines(out / LEFT_OUT, left_out)
    if not records:
        raise DataError(out, f"none of the {len(results)} videos can be converted; see {out / LEFT_OUT}")
    for catalog in catalogs:
        _write_list(catalog, lists[catalog.source], results, records, conversion.line)
    return Outcome(list(records.values()), left_out, sum(path in records for path in todo), list(lists.values()))


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """A folder for unfinished results, empty at first and gone at last, and nobody else at work in `out`."""
    unfinished = out / UNFINISHED
    out.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(out / LOCK):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            yield unfinished
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _calls(rows: list[tuple[Catalog, int]], unfinished: Path, conversion: Conversion) -> Iterator[Call]:
    """What to ask of the processes, known by (source path, temporary path)."""
    for number, (catalog, row) in enumerate(rows):
        video = catalog.video(row)
        # A process outlives the killed run that started it by one video, so every run has names of its own.
        at = str(unfinished / f"{os.getpid()}-{number}{conversion.suffix}")
        yield Call((video.path, at), (video, at, conversion.settings), SECONDS + video.frames)


def _run(
    calls: Iterator[Call], count: int, conversion: Conversion, workers: int
) -> Iterator[tuple[str, dict | Failure]]:
    """(source path, what was done and `at` which temporary path; or why not) in the order they finish."""
    results = call_all(conversion.function, calls, min(workers, count))
    for (path, at), made in watched(results, count, "converting"):
        if isinstance(made, Failure) and os.strerror(ENOSPC) in made.reason:
            raise DataError(os.path.dirname(at), "the disk is full; make room and start again to go on")
        yield path, made if isinstance(made, Failure) else {**made, "at": at}


def _move(made: Path, place: Path) -> None:
    """Put a result in place, instead of an older one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    os.replace(made, place)


def _write_list(catalog: Catalog, new: Path, results: dict[str, str], records: dict[str, dict], line: Callable) -> None:
    """The list again: in the same order, with the same labels, of results."""
    rows = [(catalog.path(row), int(catalog.label_N[row])) for row in range(len(catalog))]
    lines = [line(results[path], label, records[path]) for path, label in rows if path in records]
    _write_lines(new, lines)
    if catalog.class_names:
        _write_lines(new.with_suffix(".classes.txt"), catalog.class_names)


def _write_lines(file: Path, lines: Iterable[str]) -> None:
    """Write a text file, all or nothing. Names in it need not be text themselves."""
    replace_file(file, "".join(f"{line}\n" for line in lines), errors="surrogateescape")


def _left_out(catalog: Catalog, reasons: dict[str, str]) -> Iterator[dict]:
    for row in range(len(catalog)):
        if (path := catalog.path(row)) in reasons:
            yield {"path": path, "label": int(catalog.label_N[row]), "reason": reasons[path]}


def add_conversion_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which lists, where to, and how many at once."""
    add_dataset_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the new tree and lists go")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (%(default)s)")


def convert_datasets(arguments: argparse.Namespace, conversion: Conversion) -> Outcome:
    """Scan and convert the sets that the arguments name, and say what came of it."""
    # However many videos are bad: they are left out, and named.
    sets = [(source, replace(data, max_bad_fraction=1.0)) for source, data in datasets(arguments)]
    catalogs = [load_catalog(source, data, workers=arguments.workers) for source, data in sets]
    outcome = convert_all(catalogs, arguments.out, conversion, arguments.workers)
    for line in summary(outcome, arguments.out):
        logger.info(line)
    gone = [f"data.{key}=" for key in ("prefix", "suffix") if any(getattr(data, key) for _, data in sets)]
    words = [f"data.root={arguments.out}", *by_split(outcome.lists), *gone, *conversion.reading]
    logger.info(f"for a recipe: {' '.join(words)}")
    return outcome


def summary(outcome: Outcome, out: Path) -> list[str]:
    """What there is now, in a few lines."""
    records = outcome.records
    before, after = (
        sum(sizes) / 1e6 for sizes in zip(*((r["source"]["size"], r["bytes"]) for r in records), strict=True)
    )
    lines = [
        f"{out}: {len(records)} videos, {outcome.made} of them new; "
        f"{before:.1f} MB became {after:.1f} MB ({100 * after / before:.0f} %)"
    ]
    changes = Counter(change for record in records for change in record["changes"])
    lines += [f"{out}: {count} {change}" for change, count in changes.most_common()]
    if outcome.left_out:
        lines.append(f"{out}: {len(outcome.left_out)} rows left out; the reasons are in {out / LEFT_OUT}")
    return [*lines, f"{out}: lists {', '.join(new.name for new in outcome.lists)}; every result is in {DONE}"]
