"""Convert the videos of lists into a parallel tree, with lists rewritten to match.

The conversion function makes one result; `conversion_files` names the results and records the finished ones. Each
result is written under a temporary name, renamed, and then recorded, so the work may be killed at any moment and
continues when started again. Sources are only read.

    OUT/                 the tree: results have the same relative paths as their sources
    OUT/NAME.list        each list, without the videos that were left out
    OUT/NAME.classes.txt its class names, if it has any
    OUT/done.jsonl       a line for each result: its source, settings, and changes
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
    """A way to convert a video."""

    function: Callable[[Video, str, dict], dict]
    """(source, path to write, settings) → record of the changes. Importable by name; raises DataError."""
    settings: dict  # plain values; a change of one converts everything again
    suffix: str  # of the results; empty for folders
    line: Callable[[str, int, dict], str]  # (path, label, record) → a line of the new list
    reading: tuple[str, ...] = ()  # settings for a recipe that reads the results


@dataclass(frozen=True)
class Outcome:
    """The results of a conversion."""

    records: list[dict]  # one for each result in the new lists
    left_out: list[dict]  # path, label and reason of every other row
    made: int  # number of new results
    lists: list[Path]  # the new ones


def convert_all(catalogs: list[Catalog], out: Path, conversion: Conversion, workers: int) -> Outcome:
    """Convert every readable video of these lists into the tree at `out`.

    Raises DataError if a source would be overwritten, no video can be converted, or the disk is full.
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
    """Make a temporary folder for unfinished results, and lock `out` against other processes."""
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
    """Yield the calls of the conversion function, keyed by (source path, temporary path)."""
    for number, (catalog, row) in enumerate(rows):
        video = catalog.video(row)
        # A process outlives the killed run that started it by one video, so every run has names of its own.
        at = str(unfinished / f"{os.getpid()}-{number}{conversion.suffix}")
        yield Call((video.path, at), (video, at, conversion.settings), SECONDS + video.frames)


def _run(
    calls: Iterator[Call], count: int, conversion: Conversion, workers: int
) -> Iterator[tuple[str, dict | Failure]]:
    """Yield (source path, record with the temporary path `at`, or Failure) in the order in which they finish."""
    results = call_all(conversion.function, calls, min(workers, count))
    for (path, at), made in watched(results, count, "converting"):
        if isinstance(made, Failure) and os.strerror(ENOSPC) in made.reason:
            raise DataError(os.path.dirname(at), "the disk is full; make room and start again to go on")
        yield path, made if isinstance(made, Failure) else {**made, "at": at}


def _move(made: Path, place: Path) -> None:
    """Move a result to its place, where it replaces an older one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    os.replace(made, place)


def _write_list(catalog: Catalog, new: Path, results: dict[str, str], records: dict[str, dict], line: Callable) -> None:
    """Write the list of the results, in the same order and with the same labels."""
    rows = [(catalog.path(row), int(catalog.label_N[row])) for row in range(len(catalog))]
    lines = [line(results[path], label, records[path]) for path, label in rows if path in records]
    _write_lines(new, lines)
    if catalog.class_names:
        _write_lines(new.with_suffix(".classes.txt"), catalog.class_names)


def _write_lines(file: Path, lines: Iterable[str]) -> None:
    """Write a text file atomically. Names in it need not be valid UTF-8."""
    replace_file(file, "".join(f"{line}\n" for line in lines), errors="surrogateescape")


def _left_out(catalog: Catalog, reasons: dict[str, str]) -> Iterator[dict]:
    for row in range(len(catalog)):
        if (path := catalog.path(row)) in reasons:
            yield {"path": path, "label": int(catalog.label_N[row]), "reason": reasons[path]}


def add_conversion_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the lists, the output folder and the number of processes."""
    add_dataset_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for the new tree and lists")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (%(default)s)")


def convert_datasets(arguments: argparse.Namespace, conversion: Conversion) -> Outcome:
    """Scan and convert the datasets that the arguments name, and print a summary."""
    # Unreadable videos are left out and reported, however many there are.
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
    """Return the lines of the summary."""
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
